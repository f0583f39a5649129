// Keys and values of tokens already seen, for prefill and decoding.
#pragma once

#include <vector>

#include "slmi/formats/llama_config.h"
#include "slmi/ops/tensor.h"

namespace slmi::model {

/// Rows of keys (rotated) and values a layer. Which rows belong to whom is the caller's business: a shared read-only
/// prefix has its rows once, each sequence has a range of its own.
class KvCache {
 public:
  KvCache(const formats::LlamaConfig& config, int64_t rows, at::ScalarType type, at::Device device);
  int64_t rows() const { return rows_; }
  const at::Tensor& keys(int64_t layer) const { return keys_[static_cast<size_t>(layer)]; }      // [rows, HK*E]
  const at::Tensor& values(int64_t layer) const { return values_[static_cast<size_t>(layer)]; }  // [rows, HK*E]
  uint64_t bytes() const;

 private:
  int64_t rows_ = 0;
  std::vector<at::Tensor> keys_, values_;
};

}  // namespace slmi::model
