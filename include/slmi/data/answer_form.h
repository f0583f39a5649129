// What the answers of a training set have in common, and whether a text can still become such an answer: what decoding
// is held to.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "slmi/base/json.h"
#include "slmi/data/row.h"

namespace slmi::data {

/// Which texts stand in one place of the answers.
enum class TextForm {
  None,    // no text
  Closed,  // one of the words seen there, each of them often
  Shown,   // a name of the request's catalogue
  Copied,  // a part of the request, letter for letter, or one of the words
  Any,
};

/// Every value seen in one place of the answers.
struct ValueForm {
  struct Key;
  bool null = false, boolean = false, integer = false, decimal = false;
  TextForm text = TextForm::None;
  std::vector<std::string> words;         // of Closed; of Copied if its texts were a closed set as well; sorted
  std::vector<std::string> quoted_words;  // the same as JSON strings
  bool whole_words = false;               // of Copied: its texts begin and end where words do
  bool object = false;
  bool keys_fixed = false;      // every object has all keys, in their order
  std::vector<Key> keys;        // in the order of their first appearance
  int64_t max_items = -1;       // of arrays; -1: no array
  std::vector<ValueForm> item;  // of arrays: one, or none if all were empty
};

struct ValueForm::Key {
  std::string name;
  std::string opening;    // "name" and a colon, as they stand before its value
  bool required = false;  // in every object
  ValueForm value;
};

/// Answers are either labels of a closed set, or JSON as dump_spaced() writes it.
struct AnswerForm {
  std::vector<std::string> labels;  // sorted; empty: JSON
  ValueForm value;

  Json to_json() const;
  /// @throws Error{Input} naming `source` and the key.
  static AnswerForm from_json(const Json& json, const std::string& source);
  /// In a few words, e.g. "JSON with action, product (as shown), quantity".
  std::string describe() const;
};

/// The form of the rows' answers; none if they have none that could be held to: neither all JSON in the spelling of
/// dump_spaced(), nor labels that each stand there often.
std::optional<AnswerForm> learn_answer_form(const std::vector<Row>& rows);

/// Whether `size` bytes of `text` from `begin` on start where a word does (no space first, not within a word), and
/// whether they end where one does. Bytes beyond ASCII count as letters.
bool begins_a_word(std::string_view text, size_t begin);
bool ends_a_word(std::string_view text, size_t begin, size_t size);

/// How a text stands to the answers that a form allows.
struct AnswerFit {
  bool begins = false;  // an allowed answer begins with it and goes on
  bool whole = false;   // it is one
};

/// A form together with the request that is to be answered.
class AnswerCheck {
 public:
  /// `text`: the request as typed; `catalog`: names shown with it. Without a catalogue names are free.
  AnswerCheck(std::shared_ptr<const AnswerForm> form, std::string_view text, const std::vector<std::string>& catalog);
  /// `answer`: bytes so far; they may end inside a character.
  AnswerFit fit(std::string_view answer) const;

 private:
  friend class AnswerMatcher;
  std::shared_ptr<const AnswerForm> form_;
  std::string text_;                // as it would stand within a JSON string
  std::vector<std::string> names_;  // as JSON strings
};

}  // namespace slmi::data
