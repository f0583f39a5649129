// A scanner that only keeps track of positions; see the header.
#include "json_place.h"

#include <set>
#include <vector>

#include "slmi/base/json.h"

namespace slmi::data {
namespace {

/// Walks valid JSON without building values. It never reads past the end, whatever the text is.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  uint64_t position() const { return at_; }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void advance() { at_ += at_ < text_.size() ? 1 : 0; }
  void skip_spaces() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\r' || peek() == '\n') ++at_;
  }
  bool take(char wanted) {
    skip_spaces();
    if (peek() != wanted) return false;
    advance();
    return true;
  }

  /// The string that begins at the cursor, with its quotes.
  std::string_view take_string() {
    const uint64_t begin = at_;
    advance();
    while (at_ < text_.size() && text_[at_] != '"') at_ += text_[at_] == '\\' ? 2 : 1;
    at_ = std::min<uint64_t>(at_, text_.size());
    advance();
    return text_.substr(begin, at_ - begin);
  }

  /// Moves past one whole value: brackets are counted, not recursed into.
  void skip_value() {
    skip_spaces();
    uint64_t depth = 0;
    do {
      const char c = peek();
      if (c == '"') {
        take_string();
        continue;
      }
      if (c == '{' || c == '[') ++depth;
      if (c == '}' || c == ']') {
        if (depth == 0) return;
        --depth;
      }
      if (depth == 0 && c != '}' && c != ']') {
        skip_scalar();
        return;
      }
      advance();
    } while (depth > 0 && at_ < text_.size());
  }

 private:
  void skip_scalar() {
    while (at_ < text_.size() && std::string_view(",}] \t\r\n").find(text_[at_]) == std::string_view::npos) ++at_;
  }

  std::string_view text_;
  uint64_t at_ = 0;
};

bool is_key(std::string_view quoted, const std::string& key) {
  const Json value = Json::parse(quoted, nullptr, /*allow_exceptions=*/false);
  return value.is_string() && value.get_ref<const std::string&>() == key;
}

bool enter_key(Scanner& in, const std::string& key) {
  if (!in.take('{')) return false;
  do {
    in.skip_spaces();
    if (in.peek() != '"') return false;
    const auto name = in.take_string();
    if (!in.take(':')) return false;
    in.skip_spaces();
    if (is_key(name, key)) return true;
    in.skip_value();
  } while (in.take(','));
  return false;
}

bool enter_index(Scanner& in, uint64_t index) {
  if (!in.take('[')) return false;
  for (uint64_t i = 0; i < index; ++i) {
    in.skip_value();
    if (!in.take(',')) return false;
  }
  in.skip_spaces();
  return true;
}

}  // namespace

uint64_t find_value(std::string_view text, std::span<const JsonStep> path) {
  Scanner in(text);
  in.skip_spaces();
  uint64_t reached = in.position();
  for (const JsonStep& step : path) {
    const auto* key = std::get_if<std::string>(&step);
    if (!(key != nullptr ? enter_key(in, *key) : enter_index(in, std::get<uint64_t>(step)))) break;
    reached = in.position();
  }
  return reached;
}

uint64_t find_repeated_key(std::string_view text) {
  Scanner in(text);
  std::vector<std::set<std::string, std::less<>>> open;  // keys of each object the cursor is in; arrays hold none
  while (in.position() < text.size()) {
    const char c = in.peek();
    if (c == '"') {
      const uint64_t at = in.position();
      const auto name = in.take_string();
      in.skip_spaces();
      if (in.peek() != ':' || open.empty()) continue;
      const Json value = Json::parse(name, nullptr, /*allow_exceptions=*/false);
      if (value.is_string() && !open.back().insert(value.get<std::string>()).second) return at;
      continue;
    }
    if (c == '{' || c == '[') open.emplace_back();
    if ((c == '}' || c == ']') && !open.empty()) open.pop_back();
    in.advance();
  }
  return 0;
}

}  // namespace slmi::data
