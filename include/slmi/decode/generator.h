// Greedy generation for a batch of requests, with each shared prompt prefix computed once.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "slmi/data/answer_form.h"
#include "slmi/model/kv_cache.h"
#include "slmi/model/llama.h"
#include "slmi/text/tokenizer.h"

namespace slmi::decode {

/// A request: ids = [prefix | own], own is never empty.
struct Prompt {
  std::vector<int32_t> ids;
  int64_t prefix_len = 0;                                    // tokens that other requests may share; 0: none
  std::shared_ptr<const data::AnswerCheck> check = nullptr;  // what the answer is held to; null: nothing
};

struct Answer {
  std::vector<int32_t> ids;      // without the stop token
  double log_probability = 0.0;  // sum over the answer's tokens and its stop token, of the unmasked model
  bool stopped = false;          // a stop token came before max_new_tokens
  int64_t held = 0;              // tokens that are not the likeliest, since the prompt's check refused that one
  // Seconds from the start of the call.
  double first_token_s = 0.0, last_token_s = 0.0;
};

struct GenerateOptions {
  int64_t max_new_tokens = 128;
  std::vector<int64_t> stop_ids;
  text::Tokenizer::Ptr vocabulary = nullptr;  // needed where a prompt has a check
};

enum class PrefixCache { Off, On };

/// Wall time spent and tokens handled, over the generator's life; for prefill and decode rates.
struct GenerateCounters {
  double prefill_s = 0.0, decode_s = 0.0;
  int64_t prefill_tokens = 0, decode_tokens = 0;
};

/// Owns the key/value cache. One generator runs one batch at a time; not thread-safe. The model must not change while
/// prefixes of it are cached: call forget_prefixes() after its adapters were refreshed.
class Generator {
 public:
  Generator(std::shared_ptr<model::Llama> llama, PrefixCache prefix_cache);

  /// Answers in the order of the prompts. @throws Error{Usage} if a prompt and its answer exceed the model's positions.
  std::vector<Answer> generate(std::span<const Prompt> prompts, const GenerateOptions& options);
  void forget_prefixes();

  const GenerateCounters& counters() const { return counters_; }
  uint64_t cache_bytes() const;

 private:
  struct Prefix {
    int64_t begin = 0, length = 0;  // rows of the cache
  };
  struct Sequence;
  Prefix cached_prefix(std::span<const int32_t> ids);
  void reserve_rows(int64_t prefix_rows, int64_t own_rows);
  at::Tensor run(std::span<const Sequence> sequences, std::span<const int64_t> active);
  void prefill(std::vector<Sequence>& sequences);
  void pick(std::vector<Sequence>& sequences, std::span<const int64_t> active, const at::Tensor& hidden);

  std::shared_ptr<model::Llama> llama_;
  PrefixCache prefix_cache_;
  std::unique_ptr<model::KvCache> cache_;
  int64_t prefix_rows_ = 0,
          prefix_used_ = 0;  // rows [0, prefix_rows_) hold prefixes, the rest belongs to the running batch
  std::unordered_map<uint64_t, std::vector<std::pair<std::vector<int32_t>, Prefix>>> prefixes_;
  GenerateCounters counters_;
};

}  // namespace slmi::decode
