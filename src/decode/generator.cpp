// Greedy generation: prefill of own parts, then one token a step for the sequences still running.
#include "slmi/decode/generator.h"

#include "hold.h"

#include <ATen/ATen.h>
#include <algorithm>
#include <optional>
#include <unordered_set>

#include "slmi/base/clock.h"
#include "slmi/base/error.h"
#include "slmi/data/encoded_dataset.h"
#include "slmi/ops/cross_entropy.h"

namespace slmi::decode {
namespace {

constexpr int64_t kPrefillTokens = 4096;  // of one forward pass: bounds its activations
constexpr int64_t kMinPrefixRows = 1024;  // first size of the prefix region of the cache

at::Tensor device_tensor(const std::vector<int32_t>& values, at::Device device) {
  return at::tensor(values, at::kInt).to(device);
}

}  // namespace

/// A running request. Its own tokens occupy cache rows [begin, begin + length).
struct Generator::Sequence {
  Prefix prefix;
  int64_t begin = 0, length = 0;
  std::vector<int32_t> pending;  // tokens not yet seen by the model: the own prompt, later the last picked token
  std::optional<Holder> holder;  // what the answer is held to
  Answer answer;
};

Generator::Generator(std::shared_ptr<model::Llama> llama, PrefixCache prefix_cache)
    : llama_(std::move(llama)), prefix_cache_(prefix_cache) {}

void Generator::forget_prefixes() {
  prefixes_.clear();
  prefix_used_ = 0;
}

uint64_t Generator::cache_bytes() const {
  return cache_ ? cache_->bytes() : 0;
}

void Generator::reserve_rows(int64_t prefix_rows, int64_t own_rows) {
  const bool prefixes_fit = prefix_used_ + prefix_rows <= prefix_rows_;
  if (cache_ && prefixes_fit && prefix_rows_ + own_rows <= cache_->rows()) return;
  // Starting afresh drops what is cached, so there must be room for what it held as well as for what comes.
  if (prefix_used_ + prefix_rows > prefix_rows_)
    prefix_rows_ = std::max(kMinPrefixRows, 2 * (prefix_used_ + prefix_rows));
  forget_prefixes();
  cache_ = std::make_unique<model::KvCache>(llama_->config(), prefix_rows_ + own_rows, llama_->options().policy.kv,
                                            llama_->device());
}

/// Runs the pending tokens of the active sequences; returns the last hidden state of each, [active, D].
at::Tensor Generator::run(std::span<const Sequence> sequences, std::span<const int64_t> active) {
  std::vector<int32_t> tokens, positions;
  std::vector<int64_t> rows, last;
  std::vector<ops::AttentionSegment> segments;
  int64_t max_position = 0;
  for (const int64_t i : active) {
    const Sequence& s = sequences[static_cast<size_t>(i)];
    const auto n = static_cast<int64_t>(s.pending.size());
    segments.push_back(
        {static_cast<int64_t>(tokens.size()), n, s.prefix.begin, s.prefix.length, s.begin, s.length + n});
    for (int64_t j = 0; j < n; ++j) {
      tokens.push_back(s.pending[static_cast<size_t>(j)]);
      positions.push_back(static_cast<int32_t>(s.prefix.length + s.length + j));
      rows.push_back(s.begin + s.length + j);
    }
    max_position = std::max<int64_t>(max_position, positions.back() + 1);
    last.push_back(static_cast<int64_t>(tokens.size()) - 1);
  }
  const auto device = llama_->device();
  llama_->reserve_positions(max_position);
  model::ForwardContext context;
  context.positions = device_tensor(positions, device);
  context.plan = ops::AttentionPlan(std::move(segments), device, ops::AttentionPasses::ForwardOnly);
  context.cache = cache_.get();
  context.cache_rows = at::tensor(rows, at::kLong).to(device);
  const at::Tensor hidden = llama_->forward(device_tensor(tokens, device), context);
  return hidden.index_select(0, at::tensor(last, at::kLong).to(device));
}

Generator::Prefix Generator::cached_prefix(std::span<const int32_t> ids) {
  auto& bucket = prefixes_[data::hash_of_prefix(ids)];
  for (const auto& [known, prefix] : bucket)
    if (std::equal(known.begin(), known.end(), ids.begin(), ids.end())) return prefix;
  const Prefix prefix{prefix_used_, static_cast<int64_t>(ids.size())};
  Sequence s;
  s.begin = prefix.begin;
  s.pending.assign(ids.begin(), ids.end());
  const int64_t only = 0;
  run(std::span<const Sequence>(&s, 1), std::span<const int64_t>(&only, 1));
  prefix_used_ += prefix.length;
  bucket.emplace_back(std::vector<int32_t>(ids.begin(), ids.end()), prefix);
  counters_.prefill_tokens += prefix.length;
  return prefix;
}

/// Leaves the next token of each active sequence pending. hidden [active, D]: their last states.
void Generator::pick(std::vector<Sequence>& sequences, std::span<const int64_t> active, const at::Tensor& hidden) {
  const auto n = static_cast<int64_t>(active.size());
  const at::Tensor logits = llama_->head(hidden);
  const at::Tensor ids = at::empty({n}, at::TensorOptions().dtype(at::kLong).device(hidden.device()));
  const at::Tensor log_probabilities = at::empty({n}, hidden.options());
  ops::pick_greedy(logits, ids, log_probabilities);
  const at::Tensor host_ids = ids.cpu(), host_lp = log_probabilities.cpu();
  for (int64_t j = 0; j < n; ++j) {
    Sequence& s = sequences[static_cast<size_t>(active[static_cast<size_t>(j)])];
    Picked picked{static_cast<int32_t>(host_ids.data_ptr<int64_t>()[j]), host_lp.data_ptr<float>()[j]};
    if (s.holder && !s.holder->take(picked.id)) {
      picked = s.holder->take_likeliest(logits[j], picked);
      ++s.answer.held;
    }
    s.pending.assign(1, picked.id);
    s.answer.log_probability += picked.log_probability;
  }
}

/// Fills the cache with every own part and leaves each sequence's first token pending.
void Generator::prefill(std::vector<Sequence>& sequences) {
  size_t begin = 0;
  while (begin < sequences.size()) {
    std::vector<int64_t> part;
    int64_t tokens = 0;
    while (begin < sequences.size() &&
           (part.empty() || tokens + static_cast<int64_t>(sequences[begin].pending.size()) <= kPrefillTokens)) {
      tokens += static_cast<int64_t>(sequences[begin].pending.size());
      part.push_back(static_cast<int64_t>(begin++));
    }
    const at::Tensor hidden = run(sequences, part);
    for (const int64_t i : part) {
      Sequence& s = sequences[static_cast<size_t>(i)];
      s.length += static_cast<int64_t>(s.pending.size());
    }
    pick(sequences, part, hidden);
    counters_.prefill_tokens += tokens;
  }
}

std::vector<Answer> Generator::generate(std::span<const Prompt> prompts, const GenerateOptions& options) {
  const double start = now_s();
  int64_t own_rows = 0, prefix_rows = 0;
  std::unordered_set<uint64_t> new_prefixes;
  const auto prefix_len = [&](const Prompt& p) { return prefix_cache_ == PrefixCache::On ? p.prefix_len : 0; };
  for (const auto& p : prompts) {
    const auto length = static_cast<int64_t>(p.ids.size());
    require(length > prefix_len(p), ErrorKind::Internal, "a prompt needs at least one token of its own");
    require(length + options.max_new_tokens <= llama_->config().max_position_embeddings, ErrorKind::Usage,
            "a prompt of {} tokens and {} new ones exceed the model's {} positions; lower --max-new-tokens", length,
            options.max_new_tokens, llama_->config().max_position_embeddings);
    own_rows += length - prefix_len(p) + options.max_new_tokens;
    const uint64_t hash = data::hash_of_prefix(std::span(p.ids).first(static_cast<size_t>(prefix_len(p))));
    if (!prefixes_.contains(hash) && new_prefixes.insert(hash).second) prefix_rows += prefix_len(p);
  }
  reserve_rows(prefix_rows, own_rows);

  std::vector<Sequence> sequences(prompts.size());
  int64_t row = prefix_rows_;
  for (size_t i = 0; i < prompts.size(); ++i) {
    Sequence& s = sequences[i];
    const int64_t shared = prefix_len(prompts[i]);
    const std::span<const int32_t> ids(prompts[i].ids);
    if (shared > 0) s.prefix = cached_prefix(ids.first(static_cast<size_t>(shared)));
    s.pending.assign(ids.begin() + shared, ids.end());
    if (prompts[i].check) s.holder.emplace(prompts[i].check, options.vocabulary, options.stop_ids);
    s.begin = row;
    row += static_cast<int64_t>(s.pending.size()) + options.max_new_tokens;
  }
  prefill(sequences);
  const double prefilled = now_s();
  counters_.prefill_s += prefilled - start;

  std::vector<int64_t> active;
  const auto is_stop = [&](int32_t id) {
    return std::find(options.stop_ids.begin(), options.stop_ids.end(), id) != options.stop_ids.end();
  };
  // Takes the pending token into the answer; true while the sequence goes on.
  const auto accept = [&](Sequence& s, double time) {
    if (s.answer.ids.empty() && s.answer.first_token_s == 0.0) s.answer.first_token_s = time - start;
    s.answer.last_token_s = time - start;
    if (is_stop(s.pending.front())) {
      s.answer.stopped = true;
      return false;
    }
    s.answer.ids.push_back(s.pending.front());
    return static_cast<int64_t>(s.answer.ids.size()) < options.max_new_tokens;
  };
  for (size_t i = 0; i < sequences.size(); ++i)
    if (accept(sequences[i], prefilled)) active.push_back(static_cast<int64_t>(i));

  while (!active.empty()) {
    const at::Tensor hidden = run(sequences, active);
    for (const int64_t i : active) ++sequences[static_cast<size_t>(i)].length;
    pick(sequences, active, hidden);
    const double time = now_s();
    std::vector<int64_t> next;
    for (const int64_t i : active)
      if (accept(sequences[static_cast<size_t>(i)], time)) next.push_back(i);
    counters_.decode_tokens += static_cast<int64_t>(active.size());
    active = std::move(next);
  }
  counters_.decode_s += now_s() - prefilled;
  std::vector<Answer> out;
  for (auto& s : sequences) out.push_back(std::move(s.answer));
  return out;
}

}  // namespace slmi::decode
