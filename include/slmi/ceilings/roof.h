// The roof over a request: how fast a model could answer at most, from the bytes it must read and the products it must
// compute. Plain arithmetic: a measured time over the roof's says how much of the hardware a program leaves unused.
//
// One pass over T new tokens in each of B rows that see p positions each reads every matrix once and computes
//   bytes(pass) = weight bytes + B * p * bytes of keys and values a position       (shared positions count once)
//   flops(pass) = B * (T * flops a token + flops of a row of logits + 4 * L * H * E * positions seen by each token)
//   time(pass)  = max(bytes / bandwidth, flops / rate)
// Prefill is one pass over the prompt with logits for its last token; it gives the first answer token. Each further
// answer token is a pass over one token. Left out, so that the roof stays one: activations, norms, softmax, sampling,
// tokenizing, launches, and whatever a program reads twice or turns into another format first.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace slmi::formats {
struct LlamaConfig;
class Checkpoint;
}  // namespace slmi::formats

namespace slmi::ceilings {

/// Bits a stored weight takes, scales included, and a value of the KV cache.
struct WeightBits {
  double blocks = 16.0;  // matrices of the blocks
  double head = 16.0;    // the output matrix, or the embedding that is tied to it
  double kv = 16.0;
};

/// What a model's passes read and compute.
struct ModelWork {
  double decode_weight_bytes = 0.0;   // a pass over one token: every block matrix and the head, once whatever the batch
  double prefill_weight_bytes = 0.0;  // a pass over prompts: the same, unless the caller knows better
  double flops_per_token = 0.0;       // of the block matrices: 2 a weight
  double head_flops = 0.0;            // of one row of logits: 2 * V * D
  double attention_flops_per_position = 0.0;  // of one token that sees one position: 4 * L * H * E
  double kv_bytes_per_position = 0.0;         // 2 * L * HK * E values
};

/// Rows of the embedding that are read are a few KiB and left out; a tied head is read whole for each pass.
ModelWork model_work(const formats::LlamaConfig& config, const WeightBits& bits);

/// The same with the bytes that the checkpoint's matrices take as they are stored. `bits.kv` counts alone.
ModelWork model_work(const formats::Checkpoint& checkpoint, const WeightBits& bits = {});

/// Bits a weight of a format by name, letter case, blanks, '-' and '_' not counting: f32, f16, bf16; nf4 (double
/// quantization, blocks of 64; the head stays in 16 bits); gptq-g32, gptq-g64, gptq-g128 (16-bit scales, 4-bit zeros;
/// the head stays in 16 bits); and GGUF's file types (Q4_K_M, ...), mixed over this model's tensors as `slmi quantize`
/// mixes them without importances, and block types (Q4_1, ...), for every matrix.
/// @throws Error{Usage} naming the known ones; Error{Input} if rows of this model do not fit a block type.
WeightBits weight_bits(std::string_view format, const formats::LlamaConfig& config);

struct RoofTimes {
  double ttft_ms = 0.0;  // to the first token, of all rows of the batch
  double tpot_ms = 0.0;  // a further token, mean over the answer; of an answer of one token, what a second would take
  double e2e_ms = 0.0;   // ttft + (answer tokens - 1) * tpot
  double requests_per_s = 0.0;                    // batch / e2e
  std::string prefill_bound_by, decode_bound_by;  // "memory" or "matrix products"
};

/// `batch` equal requests at once.
/// @param prompt_tokens  of the whole prompt, cached ones included.
/// @param answer_tokens  generated, the stop token included.
/// @param cached_tokens  of the prompt: a shared prefix whose keys and values are kept, less than prompt_tokens.
/// @throws Error{Usage} unless bandwidth, rate and the counts are positive.
RoofTimes roof(const ModelWork& work, double read_gb_per_s, double gflops, int64_t prompt_tokens, int64_t answer_tokens,
               int64_t batch, int64_t cached_tokens = 0);

}  // namespace slmi::ceilings
