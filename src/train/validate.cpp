// Validation; see the header.
#include "slmi/train/validate.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "slmi/data/packing.h"
#include "slmi/metrics/scoring.h"
#include "slmi/train/pass.h"

namespace slmi::train {
namespace {

constexpr int64_t kDecodeBatch = 64;  // rows answered at once: large enough for full products

}  // namespace

Validator::Validator(std::shared_ptr<model::Llama> llama, const data::RowSet& rows, const data::EncodedDataset& encoded,
                     std::shared_ptr<const text::PromptBuilder> prompts, std::vector<int64_t> stop_ids,
                     const TrainConfig& config, comm::Communicator& ranks)
    : llama_(std::move(llama)),
      rows_(rows),
      encoded_(encoded),
      prompts_(std::move(prompts)),
      config_(config),
      ranks_(ranks),
      generator_(llama_, config.shared_prefix ? decode::PrefixCache::On : decode::PrefixCache::Off) {
  options_.max_new_tokens = config.max_new_tokens;
  options_.stop_ids = std::move(stop_ids);
  const int64_t wanted = config.val_rows > 0 ? std::min(config.val_rows, encoded.size()) : encoded.size();
  for (int64_t i = 0; i < wanted; ++i) chosen_.push_back(i * encoded.size() / wanted);
}

double Validator::loss_of_this_rank() {
  const auto sharing = config_.shared_prefix ? data::SharedPrefix::On : data::SharedPrefix::Off;
  const auto micro = data::cut_into_micro_batches(encoded_, chosen_, {config_.micro_tokens, sharing, ranks_.size()});
  double loss = 0.0;
  for (const int64_t i : data::deal_to_rank(static_cast<int64_t>(micro.size()), ranks_.rank(), ranks_.size()))
    loss += model::forward_loss(
        *llama_, model::to_device(data::pack(encoded_, micro[static_cast<size_t>(i)], sharing), llama_->device()));
  return loss;
}

int64_t Validator::right_of_this_rank() {
  std::vector<int64_t> mine;
  for (const int64_t i : data::deal_to_rank(static_cast<int64_t>(chosen_.size()), ranks_.rank(), ranks_.size()))
    mine.push_back(chosen_[static_cast<size_t>(i)]);
  int64_t right = 0;
  for (size_t begin = 0; begin < mine.size(); begin += kDecodeBatch) {
    const size_t end = std::min(mine.size(), begin + kDecodeBatch);
    std::vector<decode::Prompt> prompts;
    for (size_t i = begin; i < end; ++i) {
      const auto ids = encoded_.ids(mine[i]).first(static_cast<size_t>(encoded_.target_begin(mine[i])));
      prompts.push_back({{ids.begin(), ids.end()}, encoded_.prefix_len(mine[i])});
    }
    const auto answers = generator_.generate(prompts, options_);
    for (size_t i = begin; i < end; ++i) {
      const auto& row = rows_.rows[static_cast<size_t>(encoded_.source_row(mine[i]))];
      right += metrics::is_exact_match(row.answer, prompts_->decode_answer(answers[i - begin].ids)) ? 1 : 0;
    }
  }
  return right;
}

Validation Validator::operator()(int64_t step) {
  const at::Tensor sums = at::zeros({2}, at::kDouble);
  sums[0].fill_(loss_of_this_rank());
  generator_.forget_prefixes();
  sums[1].fill_(right_of_this_rank());
  const at::Tensor of_all = sums.to(llama_->device());
  ranks_.all_reduce_start(of_all);
  ranks_.wait();
  ranks_.synchronize();
  const at::Tensor host = of_all.cpu();
  Validation out;
  out.step = step;
  out.rows = static_cast<int64_t>(chosen_.size());
  out.loss = host[0].item<double>() / static_cast<double>(data::count_targets(encoded_, chosen_));
  out.exact_match = host[1].item<double>() / static_cast<double>(out.rows);
  return out;
}

}  // namespace slmi::train
