// See the header.
#include "hold.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "slmi/base/error.h"

namespace slmi::decode {

Holder::Holder(std::shared_ptr<const data::AnswerCheck> check, text::Tokenizer::Ptr vocabulary,
               const std::vector<int64_t>& stop_ids)
    : check_(std::move(check)), vocabulary_(std::move(vocabulary)), stop_ids_(stop_ids) {
  require(vocabulary_ != nullptr, ErrorKind::Internal, "an answer is held to a form, but no vocabulary was given");
}

bool Holder::is_stop(int32_t id) const {
  return std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end();
}

std::string Holder::with(std::string_view bytes) const {
  std::string out = text_;
  // SentencePiece decodes the space that begins a text's first piece to nothing.
  if (text_.empty() && vocabulary_->kind() == text::TokenizerKind::SentencePiece && bytes.starts_with(' '))
    bytes.remove_prefix(1);
  return out.append(bytes);
}

bool Holder::may_become(const std::string& text) const {
  const data::AnswerFit fit = check_->fit(text);
  return fit.begins || fit.whole;
}

bool Holder::take(int32_t id) {
  if (!held_) return true;
  if (is_stop(id)) return check_->fit(text_).whole;
  if (id >= vocabulary_->vocab_size() || vocabulary_->is_special(id)) return false;
  std::string longer = with(vocabulary_->token_bytes(id));
  if (longer.size() == text_.size() || !may_become(longer)) return false;
  text_ = std::move(longer);
  return true;
}

Picked Holder::take_likeliest(const at::Tensor& logits, Picked refused) {
  const at::Tensor host = logits.to(at::kCPU, at::kFloat).contiguous();
  const std::span values(host.data_ptr<float>(), static_cast<size_t>(host.numel()));
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [&](int32_t a, int32_t b) {
    const float x = values[static_cast<size_t>(a)], y = values[static_cast<size_t>(b)];
    return std::isnan(y) ? !std::isnan(x) || a < b : x > y || (x == y && a < b);
  };
  // What fits is mostly among the first few; the rest is sorted only as far as it is needed.
  constexpr size_t kFirst = 64, kGrowth = 8;
  for (size_t begin = 0, end = std::min(kFirst, order.size()); begin < order.size();
       begin = end, end = std::min(end * kGrowth, order.size())) {
    const auto first = order.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto last = order.begin() + static_cast<std::ptrdiff_t>(end);
    std::partial_sort(first, last, order.end(), likelier);
    for (auto id = first; id != last; ++id) {
      if (!take(*id)) continue;
      const float lead = values[static_cast<size_t>(refused.id)] - values[static_cast<size_t>(*id)];
      return {*id, refused.log_probability - lead};
    }
  }
  held_ = false;
  return refused;
}

}  // namespace slmi::decode
