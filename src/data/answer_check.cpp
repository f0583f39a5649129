// Whether a text can still become an allowed answer: a walk along the form that may end early.
#include <algorithm>

#include "slmi/data/answer_form.h"

namespace slmi::data {
namespace {

constexpr size_t kMaxDigits = 15;  // what a double holds exactly; also keeps a model from writing digits without end

std::string in_quotes(std::string_view text) {
  return dump_spaced(Json(std::string(text)));
}
/// As `text` stands within a JSON string.
std::string escaped(std::string_view text) {
  const std::string whole = in_quotes(text);
  return whole.substr(1, whole.size() - 2);
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_continuation(char c) {
  return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U;
}

}  // namespace

/// Walks over `rest`. Each step consumes what it matches.
class AnswerMatcher {
 public:
  enum class Step {
    Fits,    // matched to its end
    RanOut,  // all that is there matches; more is needed
    Breaks,  // something else stands there
  };

  AnswerMatcher(const AnswerCheck& check, std::string_view answer) : check_(check), rest_(answer) {}
  bool at_end() const { return rest_.empty(); }

  Step value(const ValueForm& form) {
    if (rest_.empty()) return Step::RanOut;
    const char c = rest_.front();
    if (c == '"') return text(form);
    if (c == '{') return form.object ? object(form) : Step::Breaks;
    if (c == '[') return form.max_items >= 0 ? array(form) : Step::Breaks;
    if (c == 'n') return form.null ? literal("null") : Step::Breaks;
    if (c == 't') return form.boolean ? literal("true") : Step::Breaks;
    if (c == 'f') return form.boolean ? literal("false") : Step::Breaks;
    return form.integer || form.decimal ? number(form.decimal) : Step::Breaks;
  }

 private:
  Step literal(std::string_view want) {
    if (rest_.starts_with(want)) {
      rest_.remove_prefix(want.size());
      return Step::Fits;
    }
    return want.starts_with(rest_) ? Step::RanOut : Step::Breaks;
  }

  /// One of `wanted`, none of which is the beginning of another.
  Step one_of(const std::vector<std::string>& wanted) {
    Step best = Step::Breaks;
    for (const auto& word : wanted) {
      const Step step = literal(word);
      if (step == Step::Fits) return step;
      if (step == Step::RanOut) best = step;
    }
    return best;
  }

  size_t digits() {
    size_t n = 0;
    while (n < rest_.size() && is_digit(rest_[n])) ++n;
    rest_.remove_prefix(n);
    return n;
  }

  Step number(bool decimal) {
    if (rest_.front() == '-') rest_.remove_prefix(1);
    if (rest_.empty()) return Step::RanOut;
    const bool zero = rest_.front() == '0';
    const size_t whole = digits();
    if (whole == 0 || whole > kMaxDigits || (zero && whole > 1)) return Step::Breaks;
    if (!decimal || !rest_.starts_with('.')) return rest_.empty() ? Step::RanOut : Step::Fits;
    rest_.remove_prefix(1);
    if (rest_.empty()) return Step::RanOut;
    const size_t fraction = digits();
    if (fraction == 0 || fraction > kMaxDigits) return Step::Breaks;
    return rest_.empty() ? Step::RanOut : Step::Fits;
  }

  Step text(const ValueForm& form) {
    switch (form.text) {
      case TextForm::None:
        return Step::Breaks;
      case TextForm::Closed:
        return one_of(form.quoted_words);
      case TextForm::Shown:
        return check_.names_.empty() ? any_text() : one_of(check_.names_);
      case TextForm::Copied:
        return word_or_copied(form);
      case TextForm::Any:
        return any_text();
    }
    return Step::Breaks;
  }

  /// Length of the string's body from rest_[1] on; `closed`: whether its closing quote is there.
  size_t body_length(bool* closed) const {
    size_t i = 1;
    for (; i < rest_.size(); ++i) {
      if (rest_[i] == '"') {
        *closed = true;
        return i - 1;
      }
      if (rest_[i] == '\\') ++i;
    }
    *closed = false;
    return rest_.size() - 1;
  }

  Step word_or_copied(const ValueForm& form) {
    const Step first = one_of(form.quoted_words);
    if (first == Step::Fits) return first;
    const Step second = copied_text(form.whole_words);
    return second == Step::Breaks ? first : second;
  }

  /// Whether `part` stands in the request: with `whole_words` from a word's beginning on and, if closed, to a word's
  /// end.
  bool is_copied(std::string_view part, bool closed, bool whole_words) const {
    const std::string_view text = check_.text_;
    if (!whole_words || part.empty()) return text.find(part) != std::string_view::npos;
    for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1))
      if (begins_a_word(text, at) && (!closed || ends_a_word(text, at, part.size()))) return true;
    return false;
  }

  Step copied_text(bool whole_words) {
    bool closed = false;
    const std::string_view body = rest_.substr(1, body_length(&closed));
    if (!body.empty() && is_continuation(body.front())) return Step::Breaks;
    if (!is_copied(body, closed, whole_words)) return Step::Breaks;
    if (!closed) return Step::RanOut;
    if (body.empty() || !is_valid_utf8(body)) return Step::Breaks;
    rest_.remove_prefix(body.size() + 2);
    return Step::Fits;
  }

  Step any_text() {
    bool closed = false;
    const std::string_view body = rest_.substr(1, body_length(&closed));
    for (size_t i = 0; i < body.size(); ++i) {
      if (static_cast<unsigned char>(body[i]) < 0x20U) return Step::Breaks;
      if (body[i] != '\\') continue;
      if (++i < body.size() && std::string_view("\"\\bfnrt").find(body[i]) == std::string_view::npos)
        return Step::Breaks;  // dump_spaced() writes rarer control characters as \u, which no request needs
    }
    if (!closed) return Step::RanOut;
    if (!is_valid_utf8(body)) return Step::Breaks;
    rest_.remove_prefix(body.size() + 2);
    return Step::Fits;
  }

  Step object(const ValueForm& form) {
    rest_.remove_prefix(1);
    std::vector<bool> used(form.keys.size(), false);
    const auto complete = [&] {
      for (size_t i = 0; i < used.size(); ++i)
        if (!used[i] && (form.keys_fixed || form.keys[i].required)) return false;
      return true;
    };
    for (size_t count = 0;; ++count) {
      if (rest_.starts_with('}') && complete()) return literal("}");
      if (count == form.keys.size()) return rest_.empty() ? Step::RanOut : Step::Breaks;
      if (count > 0)
        if (const Step step = literal(", "); step != Step::Fits) return step;
      size_t which = form.keys.size();
      Step best = Step::Breaks;
      for (size_t i = 0; i < used.size() && which == form.keys.size(); ++i) {
        if (used[i] || (form.keys_fixed && i != count)) continue;
        const Step step = literal(form.keys[i].opening);
        if (step == Step::Fits) which = i;
        if (step == Step::RanOut) best = step;
      }
      if (which == form.keys.size()) return best;
      used[which] = true;
      if (const Step step = value(form.keys[which].value); step != Step::Fits) return step;
    }
  }

  Step array(const ValueForm& form) {
    rest_.remove_prefix(1);
    for (int64_t count = 0;; ++count) {
      if (rest_.starts_with(']')) return literal("]");
      if (count == form.max_items) return rest_.empty() ? Step::RanOut : Step::Breaks;
      if (count > 0)
        if (const Step step = literal(", "); step != Step::Fits) return step;
      if (const Step step = value(form.item.front()); step != Step::Fits) return step;
    }
  }

  const AnswerCheck& check_;
  std::string_view rest_;
};

AnswerCheck::AnswerCheck(std::shared_ptr<const AnswerForm> form, std::string_view text,
                         const std::vector<std::string>& catalog)
    : form_(std::move(form)), text_(escaped(text)) {
  for (const auto& name : catalog) names_.push_back(in_quotes(name));
}

AnswerFit AnswerCheck::fit(std::string_view answer) const {
  AnswerFit out;
  for (const auto& label : form_->labels) {
    out.whole |= label == answer;
    out.begins |= label.size() > answer.size() && std::string_view(label).starts_with(answer);
  }
  if (!form_->labels.empty()) return out;
  AnswerMatcher matcher(*this, answer);
  const auto step = matcher.value(form_->value);
  out.begins = step == AnswerMatcher::Step::RanOut;
  out.whole = step == AnswerMatcher::Step::Fits && matcher.at_end();
  return out;
}

}  // namespace slmi::data
