// Key/value cache storage.
#include "slmi/model/kv_cache.h"

#include <ATen/ATen.h>

namespace slmi::model {

KvCache::KvCache(const formats::LlamaConfig& config, int64_t rows, at::ScalarType type, at::Device device)
    : rows_(rows) {
  const auto options = at::TensorOptions().dtype(type).device(device);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    keys_.push_back(at::zeros({rows, config.num_kv_heads * config.head_dim}, options));
    values_.push_back(at::zeros({rows, config.num_kv_heads * config.head_dim}, options));
  }
}

uint64_t KvCache::bytes() const {
  uint64_t sum = 0;
  for (const auto& t : keys_) sum += 2 * t.nbytes();
  return sum;
}

}  // namespace slmi::model
