// The roof's arithmetic; see the header.
#include "slmi/ceilings/roof.h"

#include <algorithm>
#include <vector>

#include "plain_name.h"
#include "slmi/base/error.h"
#include "slmi/base/suggest.h"
#include "slmi/formats/checkpoint.h"
#include "slmi/kernels/nf4_codebook.h"
#include "slmi/quant/gguf_mix.h"

namespace slmi::ceilings {
namespace {

constexpr double kGigaPerMs = 1e6;  // 1e9 a second

bool is_block_matrix(const formats::ExpectedTensor& tensor) {
  return tensor.shape.size() == 2 && tensor.name.starts_with("model.layers.");
}

std::string head_name(const formats::LlamaConfig& config) {
  return config.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
}

double elements(const formats::ExpectedTensor& tensor) {
  return static_cast<double>(tensor.shape[0]) * static_cast<double>(tensor.shape[1]);
}

/// A sum of blocks and one of the head.
struct Parts {
  double blocks = 0.0, head = 0.0;
};

/// Sums f(tensor) over the matrices that a pass reads.
template <class F>
Parts sum_matrices(const formats::LlamaConfig& config, F f) {
  Parts out;
  for (const auto& tensor : formats::expected_tensors(config)) {
    if (is_block_matrix(tensor)) out.blocks += f(tensor);
    if (tensor.name == head_name(config)) out.head += f(tensor);
  }
  return out;
}

/// Everything but the weights' bytes.
ModelWork operations(const formats::LlamaConfig& config, double kv_bits) {
  const Parts weights = sum_matrices(config, elements);
  const auto layers = static_cast<double>(config.num_layers);
  const auto width = static_cast<double>(config.head_dim);
  ModelWork out;
  out.flops_per_token = 2.0 * weights.blocks;
  out.head_flops = 2.0 * weights.head;
  out.attention_flops_per_position = 4.0 * layers * static_cast<double>(config.num_heads) * width;
  out.kv_bytes_per_position = 2.0 * layers * static_cast<double>(config.num_kv_heads) * width * kv_bits / 8.0;
  return out;
}

/// Bits a weight where f(tensor) is a matrix's bytes.
template <class F>
WeightBits bits_of(const formats::LlamaConfig& config, const F& f) {
  const Parts bytes = sum_matrices(config, f), weights = sum_matrices(config, elements);
  WeightBits out;
  out.blocks = 8.0 * bytes.blocks / weights.blocks;
  out.head = 8.0 * bytes.head / weights.head;
  return out;
}

double bytes_in(quant::WeightFormat format, const formats::ExpectedTensor& tensor) {
  return static_cast<double>(quant::matrix_bytes(format, tensor.shape[0], tensor.shape[1]));
}

WeightBits mixed_bits(quant::FileType type, const formats::LlamaConfig& config) {
  const quant::MixModel mix{config.num_layers, config.num_heads / config.num_kv_heads, config.tie_word_embeddings,
                            false};
  return bits_of(config, [&](const formats::ExpectedTensor& tensor) {
    return bytes_in(quant::tensor_format(type, formats::gguf_name_of_hf(tensor.name), tensor.shape, mix), tensor);
  });
}

/// 4-bit codes, and a 16-bit scale and a 4-bit zero a group.
WeightBits gptq_bits(double group_size) {
  WeightBits out;
  out.blocks = 4.0 + (16.0 + 4.0) / group_size;
  return out;
}

/// 4-bit codes, a byte for the scale of 64 weights and an f32 for 256 of those.
WeightBits nf4_bits() {
  constexpr double kBlock = kernels::kNf4Block, kNested = kernels::kNf4NestedBlock;
  WeightBits out;
  out.blocks = 4.0 + 8.0 / kBlock + 32.0 / (kBlock * kNested);
  return out;
}

/// One pass of the batch, in ms.
struct Pass {
  double ms = 0.0;
  const char* bound_by = "";
};
Pass pass(double bytes, double flops, double read_gb_per_s, double gflops) {
  const double memory_ms = bytes / (read_gb_per_s * kGigaPerMs), products_ms = flops / (gflops * kGigaPerMs);
  return memory_ms >= products_ms ? Pass{memory_ms, "memory"} : Pass{products_ms, "matrix products"};
}

}  // namespace

ModelWork model_work(const formats::LlamaConfig& config, const WeightBits& bits) {
  const Parts weights = sum_matrices(config, elements);
  ModelWork out = operations(config, bits.kv);
  out.decode_weight_bytes = (weights.blocks * bits.blocks + weights.head * bits.head) / 8.0;
  out.prefill_weight_bytes = out.decode_weight_bytes;
  return out;
}

ModelWork model_work(const formats::Checkpoint& checkpoint, const WeightBits& bits) {
  const Parts bytes = sum_matrices(checkpoint.config(), [&](const formats::ExpectedTensor& tensor) {
    return static_cast<double>(checkpoint.tensor(tensor.name).stored_bytes());
  });
  ModelWork out = operations(checkpoint.config(), bits.kv);
  out.decode_weight_bytes = out.prefill_weight_bytes = bytes.blocks + bytes.head;
  return out;
}

WeightBits weight_bits(std::string_view format, const formats::LlamaConfig& config) {
  const std::string wanted = plain_name(format);
  if (wanted == "nf4") return nf4_bits();
  for (const int group_size : {32, 64, 128})
    if (wanted == fmt::format("gptqg{}", group_size)) return gptq_bits(group_size);
  for (const auto type : quant::all_file_types())
    if (plain_name(quant::name(type)) == wanted) return mixed_bits(type, config);
  std::vector<std::string> known = {"nf4", "gptq-g32", "gptq-g64", "gptq-g128"};
  for (const auto type : quant::all_file_types()) known.emplace_back(quant::name(type));
  for (const auto block : quant::all_weight_formats()) {
    if (quant::has_planes(block)) continue;
    if (plain_name(quant::name(block)) == wanted)
      return bits_of(config, [&](const formats::ExpectedTensor& tensor) { return bytes_in(block, tensor); });
    if (std::find(known.begin(), known.end(), quant::name(block)) == known.end())
      known.emplace_back(quant::name(block));
  }
  const std::string near = nearest_name(format, known);
  if (near.empty())
    fail(ErrorKind::Usage, "'{}': the bits of this format are not known; known are {}", format, fmt::join(known, ", "));
  fail(ErrorKind::Usage, "'{}': the bits of this format are not known; did you mean {}?", format, near);
}

RoofTimes roof(const ModelWork& work, double read_gb_per_s, double gflops, int64_t prompt_tokens, int64_t answer_tokens,
               int64_t batch, int64_t cached_tokens) {
  require(read_gb_per_s > 0 && gflops > 0, ErrorKind::Usage, "roof: {} GB/s and {} GFLOP/s; both must be positive",
          read_gb_per_s, gflops);
  require(prompt_tokens > 0 && answer_tokens > 0 && batch > 0 && cached_tokens >= 0 && cached_tokens < prompt_tokens,
          ErrorKind::Usage, "roof: {} prompt tokens, {} of them cached, {} answer tokens, batch {}", prompt_tokens,
          cached_tokens, answer_tokens, batch);
  const auto prompt = static_cast<double>(prompt_tokens), cached = static_cast<double>(cached_tokens);
  const auto answer = static_cast<double>(answer_tokens), rows = static_cast<double>(batch);
  const double kv = work.kv_bytes_per_position, attention = work.attention_flops_per_position;

  // Token t (from 1) of the prompt sees t positions.
  const double own = prompt - cached;
  const double seen = (prompt * (prompt + 1.0) - cached * (cached + 1.0)) / 2.0;
  const Pass prefill =
      pass(work.prefill_weight_bytes + kv * (cached + rows * own),
           rows * (own * work.flops_per_token + work.head_flops + attention * seen), read_gb_per_s, gflops);

  // Answer token i (from 1) is fed as position prompt + i, so that the passes for tokens 2 .. answer see prompt + 1 ..
  // prompt + answer - 1 positions: prompt + answer / 2 in the mean.
  const double positions = prompt + std::max(answer, 2.0) / 2.0;
  const Pass step =
      pass(work.decode_weight_bytes + kv * (cached + rows * (positions - cached)),
           rows * (work.flops_per_token + work.head_flops + attention * positions), read_gb_per_s, gflops);

  RoofTimes out;
  out.ttft_ms = prefill.ms;
  out.tpot_ms = step.ms;
  out.e2e_ms = prefill.ms + (answer - 1.0) * step.ms;
  out.requests_per_s = rows / out.e2e_ms * 1e3;
  out.prefill_bound_by = prefill.bound_by;
  out.decode_bound_by = step.bound_by;
  return out;
}

}  // namespace slmi::ceilings
