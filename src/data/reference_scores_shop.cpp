// Nearest name and nearest number; see the header.
#include "reference_scores_shop.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "reference_scores_text.h"
#include "shop_words.h"
#include "slmi/base/suggest.h"

namespace slmi::data {
namespace {

constexpr size_t kMoreWords = 2;  // that a request may use for a name: "cola de 2 l" for "Cola 2 l"
constexpr size_t kMaxDigits = 9;
constexpr std::string_view kNameMark = "\uE000";  // a character for private use: in no request

using Words = std::vector<TextToken>;

std::vector<const ShopWords*> word_lists(std::string_view lang) {
  if (const ShopWords* known = shop_words(lang)) return {known};
  return {shop_words("en"), shop_words("de"), shop_words("es")};
}

std::optional<int64_t> digits_of(std::string_view word) {
  if (word.starts_with('x')) word.remove_prefix(1);
  if (word.ends_with('x')) word.remove_suffix(1);
  const bool digits = std::all_of(word.begin(), word.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (word.empty() || word.size() > kMaxDigits || !digits) return std::nullopt;
  const int64_t value = std::stoll(std::string(word));
  return value > 0 ? std::optional(value) : std::nullopt;
}

bool is_phrase_at(const Words& words, size_t i, std::string_view phrase) {
  const size_t plus = phrase.find('+');
  return i + 1 < words.size() && words[i].text == phrase.substr(0, plus) &&
         words[i + 1].text == phrase.substr(plus + 1);
}

/// The number that begins at word i. Phrases are two words; "half a dozen" is the table's half + a.
std::optional<int64_t> number_at(const Words& words, size_t i, const ShopWords& known) {
  for (const auto& [phrase, value] : known.phrases)
    if (is_phrase_at(words, i, phrase)) return value;
  for (const auto& [word, value] : known.numbers)
    if (words[i].text == word) return value;
  return digits_of(words[i].text);
}

/// True if words i and i + 1 stand so in the name: "500 g".
bool is_of_name(const Words& words, size_t i, const Words& name) {
  for (size_t j = 0; j + 1 < name.size(); ++j)
    if (words[i].text == name[j].text && i + 1 < words.size() && words[i + 1].text == name[j + 1].text) return true;
  return false;
}

enum class Border { None, Clause, Sentence };

/// What stands between word i and the next: nothing but spaces, a mark, or the end of a sentence.
Border border_after(std::string_view text, const Words& words, size_t i) {
  const std::string_view between = text.substr(words[i].end, words[i + 1].begin - words[i].end);
  if (between.find_first_not_of(' ') == std::string_view::npos) return Border::None;
  const auto next = static_cast<unsigned char>(text[words[i + 1].begin]);
  const bool goes_on = next >= 'a' && next <= 'z';  // "6 uds. de"
  return between.find_first_of(".!?:") != between.npos && !goes_on ? Border::Sentence : Border::Clause;
}

std::string join(const Words& words) {
  std::string out;
  for (const auto& word : words) out += word.text;
  return out;
}

}  // namespace

Words shop_words_of(std::string_view text) {
  Words out;
  for (TextToken& token : tokenize_text(text)) {
    if (!token.is_word) continue;
    token.text = without_diacritics(token.text);
    out.push_back(std::move(token));
  }
  return out;
}

ShownName nearest_name(const Words& words, const std::vector<std::string>& catalog) {
  ShownName best;
  for (size_t n = 0; n < catalog.size(); ++n) {
    const Words name_words = shop_words_of(catalog[n]);
    const std::string name = join(name_words);
    for (size_t begin = 0; begin < words.size(); ++begin) {
      std::string said;
      for (size_t end = begin + 1; end <= std::min(words.size(), begin + name_words.size() + kMoreWords); ++end) {
        said += words[end - 1].text;
        const auto [shorter, longer] = std::minmax({said.size(), name.size()});
        // No edit distance is below the difference in length.
        if (static_cast<double>(longer - shorter) >= best.distance * static_cast<double>(longer)) continue;
        const double distance = static_cast<double>(edit_distance(said, name)) / static_cast<double>(longer);
        if (distance < best.distance) best = {n, begin, end, distance};
      }
    }
  }
  return best;
}

std::string without_name(std::string_view text, const Words& words, const ShownName& name) {
  if (!name.is_said()) return std::string(text);
  std::string out(text.substr(0, words[name.begin].begin));
  out += kNameMark;
  out += text.substr(words[name.end - 1].end);
  return out;
}

Json nearest_quantity(std::string_view text, const Words& words, const ShownName& name, std::string_view shown,
                      std::string_view lang) {
  const auto lists = word_lists(lang);
  const Words name_words = shop_words_of(shown);
  for (size_t i = name.begin; i-- > 0;) {
    const Border border = border_after(text, words, i);
    if (border == Border::Sentence) break;
    if (is_of_name(words, i, name_words)) continue;
    for (const ShopWords* known : lists) {
      const bool all = std::find(known->all.begin(), known->all.end(), words[i].text) != known->all.end();
      if (all && border == Border::None) return "all";  // not "hola a todos, ..."
      const auto number = number_at(words, i, *known);
      if (!number) continue;
      const auto longer = i > 0 ? number_at(words, i - 1, *known) : std::nullopt;  // "half a dozen" holds "a dozen"
      const bool half = i > 0 && longer && is_phrase_at(words, i, "a+dozen") && !digits_of(words[i - 1].text);
      return half ? *longer : *number;
    }
  }
  for (size_t i = name.end; i < words.size(); ++i) {
    if (!words[i].text.starts_with('x')) continue;
    if (const auto number = digits_of(words[i].text)) return *number;
  }
  return 1;
}

}  // namespace slmi::data
