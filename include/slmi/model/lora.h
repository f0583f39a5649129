// All adapters of a model: one flat buffer each for values and gradients, ordered by layer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "slmi/formats/llama_config.h"
#include "slmi/formats/peft_adapter.h"
#include "slmi/ops/linear_group.h"

namespace slmi::model {

/// The seven projections of a block, in the order of the flat buffer.
const std::vector<std::string>& all_projections();

struct LoraSpec {
  int64_t rank = 16;
  double alpha = 32.0;
  double dropout = 0.0;
  bool rank_stabilized = false;  // scale alpha / sqrt(r) instead of alpha / r (Kalajdzievski 2023, arXiv:2312.03732)
  std::vector<std::string> targets = all_projections();
  double scale() const;
};

/// Adapters A [R, K] and B [N, R] of every target projection of every layer, as views into flat f32 buffers.
class Lora {
 public:
  Lora() = default;
  /// A is Kaiming-uniform with a = sqrt(5) (bound 1/sqrt(K)) drawn from (seed, layer, module), B is zero, as PEFT
  /// initializes.
  Lora(const formats::LlamaConfig& config, const LoraSpec& spec, at::Device device, uint64_t seed);
  /// Values from a PEFT adapter. @throws Error{Input} naming the module whose shape does not fit the model.
  static Lora from_adapter(const formats::LlamaConfig& config, const formats::PeftAdapter& adapter, at::Device device);
  /// Writes a PEFT adapter directory, values in f32. @throws Error{Output}.
  void save(const std::filesystem::path& directory, const std::string& base_name) const;

  const LoraSpec& spec() const { return spec_; }
  bool defined() const { return values_.defined(); }
  int64_t size() const { return values_.numel(); }
  const at::Tensor& values() const { return values_; }        // f32 [size]
  const at::Tensor& gradients() const { return gradients_; }  // f32 [size]
  /// Those of layers [first, last), in the buffer of all.
  at::Tensor gradients(int64_t first, int64_t last) const;
  /// Allocates the gradient buffer (zero). Without it the adapters are for inference.
  void enable_training();

  /// The pair of a projection; `a` is undefined where it has no adapter.
  ops::LoraPair pair(int64_t layer, const std::string& module) const;

  struct Slot {
    int64_t layer = 0;
    std::string module;
    int64_t k = 0, n = 0, rank = 0;
    int64_t offset_a = 0, offset_b = 0;  // elements into the flat buffers
  };
  const std::vector<Slot>& slots() const { return slots_; }

 private:
  void lay_out(const formats::LlamaConfig& config);
  LoraSpec spec_;
  std::vector<Slot> slots_;
  at::Tensor values_, gradients_;
};

/// Rows and columns of a projection's matrix, {N, K}.
std::pair<int64_t, int64_t> projection_shape(const formats::LlamaConfig& config, const std::string& module);

}  // namespace slmi::model
