// One answer held to a form while it is generated.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "slmi/data/answer_form.h"
#include "slmi/text/tokenizer.h"

namespace slmi::decode {

/// A token and its log-probability under the whole distribution.
struct Picked {
  int32_t id = -1;
  float log_probability = 0.0f;
};

/// Follows one answer, token by token. The likeliest token is taken as it is if the form lets it be: only one that is
/// refused costs a look at the others.
class Holder {
 public:
  Holder(std::shared_ptr<const data::AnswerCheck> check, text::Tokenizer::Ptr vocabulary,
         const std::vector<int64_t>& stop_ids);

  /// Appends the token to the answer if the form lets it be; a stop token only after a whole answer.
  bool take(int32_t id);
  /// Appends the likeliest token of logits [V] that the form lets be. Where there is none (a vocabulary without the
  /// letters), `refused` is taken, and the answer is held no more.
  Picked take_likeliest(const at::Tensor& logits, Picked refused);

 private:
  bool is_stop(int32_t id) const;
  /// The answer's bytes with the token's at their end.
  std::string with(std::string_view bytes) const;
  bool may_become(const std::string& text) const;

  std::shared_ptr<const data::AnswerCheck> check_;
  text::Tokenizer::Ptr vocabulary_;
  std::vector<int64_t> stop_ids_;
  std::string text_;
  bool held_ = true;
};

}  // namespace slmi::decode
