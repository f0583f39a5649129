// The keyword rules of shop_rules.h: text -> words -> action, product, quantity.
#include "slmi/data/shop_rules.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "shop_words.h"
#include "slmi/base/json.h"

namespace slmi::data {
namespace {

constexpr double kFarthestName = 0.34;  // edit distance / longer length beyond which a shown name was not meant
constexpr double kSizeUnsaid = 0.2;     // added to a name whose size the text does not say
constexpr size_t kNumberReach = 5;      // words between a quantity and its product: "4 x 500 g bags of"
constexpr size_t kCorrectionReach = 3;  // "no, make that {3}", "no, que sean {3}"
constexpr size_t kFuzzyLength = 4;      // from this length on a keyword may have one typing error

struct Word {
  std::string text;         // lower case, no diacritics
  size_t sentence = 0;      // counts . ! ? and :
  bool mark_after = false;  // punctuation follows
  bool taken = false;       // part of the product's name or size
};

/// Base letter of a letter U+00C0..U+00FF (second byte of its UTF-8), or null for the two signs there.
const char* base_letter(unsigned char second) {
  static const char* const kBase[64] = {"a", "a", "a", "a",     "a",  "a",  "ae", "c", "e", "e", "e",     "e", "i",
                                        "i", "i", "i", "d",     "n",  "o",  "o",  "o", "o", "o", nullptr, "o", "u",
                                        "u", "u", "u", "y",     "th", "ss", "a",  "a", "a", "a", "a",     "a", "ae",
                                        "c", "e", "e", "e",     "e",  "i",  "i",  "i", "i", "d", "n",     "o", "o",
                                        "o", "o", "o", nullptr, "o",  "u",  "u",  "u", "u", "y", "th",    "y"};
  return kBase[second & 0x3F];
}

std::vector<Word> words_of(std::string_view text) {
  std::vector<Word> words;
  std::string current;
  size_t sentence = 0;
  auto flush = [&] {
    if (!current.empty()) words.push_back({current, sentence, false, false});
    current.clear();
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
      current += static_cast<char>(c);
    } else if (c >= 'A' && c <= 'Z') {
      current += static_cast<char>(c - 'A' + 'a');
    } else if (c == 0xC3 && i + 1 < text.size() && base_letter(static_cast<unsigned char>(text[i + 1]))) {
      current += base_letter(static_cast<unsigned char>(text[++i]));
    } else {
      flush();
      if (c == ' ') continue;
      if (!words.empty()) words.back().mark_after = true;
      const bool in_number = i > 0 && i + 1 < text.size() && text[i - 1] >= '0' && text[i - 1] <= '9' &&
                             text[i + 1] >= '0' && text[i + 1] <= '9';          // 2.49
      const bool dots = c == '.' && i + 1 < text.size() && text[i + 1] == '.';  // "two... no, three"
      const bool after_dots = c == '.' && i > 0 && text[i - 1] == '.';
      const bool shortened = !words.empty() && (words.back().text == "stk" || words.back().text == "uds");
      const bool ends = c == '.' || c == '!' || c == '?' || c == ':';
      if (ends && !in_number && !dots && !after_dots && !shortened) ++sentence;
    }
  }
  flush();
  return words;
}

/// Damerau-Levenshtein distance (optimal string alignment): a swap of neighbours counts one.
int64_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<int64_t>> d(a.size() + 1, std::vector<int64_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = static_cast<int64_t>(i);
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = static_cast<int64_t>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

enum class Matching { Exact, OneError };

bool one_error(std::string_view word, std::string_view key) {
  return key.size() >= kFuzzyLength && !word.empty() && word[0] == key[0] && edit_distance(word, key) <= 1;
}

bool matches(const std::string& word, std::string_view key, Matching how) {
  if (key.ends_with('*')) {
    key.remove_suffix(1);
    return word.starts_with(key) ||
           (how == Matching::OneError && one_error(std::string_view(word).substr(0, key.size()), key));
  }
  if (word == key) return true;
  const bool plural =
      word.size() == key.size() + 1 && word.starts_with(key) && word.back() == 's';  // "packs" is a noun
  return how == Matching::OneError && !plural && one_error(word, key);
}

/// Index of the first word of `key` ("leave+out": two in a row) that is free, or nothing.
std::optional<size_t> find(const std::vector<Word>& words, std::string_view key, Matching how) {
  const size_t plus = key.find('+');
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i].taken) continue;
    if (plus == std::string_view::npos) {
      if (matches(words[i].text, key, how)) return i;
    } else if (i + 1 < words.size() && matches(words[i].text, key.substr(0, plus), how) &&
               matches(words[i + 1].text, key.substr(plus + 1), how)) {
      return i;
    }
  }
  return std::nullopt;
}

/// "a pack of rice", "my order number": nouns that look like the verbs.
bool is_noun(const std::vector<Word>& words, size_t i) {
  if (words[i].text == "pack") return i + 1 < words.size() && words[i + 1].text == "of";
  return words[i].text == "order" && i > 0 && words[i - 1].text == "my";
}

bool holds(const std::vector<Word>& words, const WordRule& rule, Matching how) {
  return std::all_of(rule.begin(), rule.end(), [&](std::string_view key) {
    const auto at = find(words, key, how);
    return at && !is_noun(words, *at);
  });
}

bool any_holds(const std::vector<Word>& words, const std::vector<WordRule>& rules, Matching how) {
  return std::any_of(rules.begin(), rules.end(), [&](const WordRule& rule) { return holds(words, rule, how); });
}

const char* action_of(const std::vector<Word>& words, const ShopWords& known) {
  if (any_holds(words, known.no_order, Matching::Exact)) return nullptr;
  for (const Matching how : {Matching::Exact, Matching::OneError}) {
    if (any_holds(words, known.remove, how)) return "remove";
    if (any_holds(words, known.add, how)) return "add";
  }
  return nullptr;
}

/// A shown name in two parts: what it is ("basmatirice") and, from the word before its last number on, how much ("500
/// g").
struct Name {
  std::string kind;
  size_t num_kind_words = 0;
  std::vector<std::string> size;
};

bool is_number(const std::string& word) {
  return !word.empty() && std::all_of(word.begin(), word.end(), [](char c) { return c >= '0' && c <= '9'; });
}

Name name_of(std::string_view text) {
  Name name;
  const std::vector<Word> words = words_of(text);
  for (const Word& word : words) {
    const bool label = &word != &words.back() && (word.text == "size" || word.text == "grosse" || word.text == "talla");
    if (name.size.empty() && !label && !is_number(word.text)) {
      name.kind += word.text;
      ++name.num_kind_words;
    } else {
      name.size.push_back(word.text);
    }
  }
  return name;
}

/// Where the words of a size stand in a row, or nothing.
std::optional<size_t> find_run(const std::vector<Word>& words, const std::vector<std::string>& run) {
  for (size_t i = 0; !run.empty() && i + run.size() <= words.size(); ++i) {
    bool equal = true;
    for (size_t j = 0; j < run.size() && equal; ++j) {
      equal = matches(words[i + j].text, run[j], is_number(run[j]) ? Matching::Exact : Matching::OneError);
    }
    if (equal) return i;
  }
  return std::nullopt;
}

struct Product {
  size_t index = 0;           // in the catalogue
  size_t begin = 0, end = 0;  // words of the text
  double distance = 1e9;      // edit distance / longer length; a size that is not said counts against it
};

/// Edit distance / longer length of words [begin, end) and a name; one word between them may be left out ("red bell
/// peppers") at a small price.
double name_distance(const std::vector<Word>& words, size_t begin, size_t end, const std::string& kind) {
  constexpr double kLeftOut = 0.05;
  double best = 1e9;
  for (size_t skip = begin; skip < end; ++skip) {
    if (skip == end - 1 && end - begin > 1) break;
    std::string said;
    for (size_t i = begin; i < end; ++i) {
      if (i != skip || skip == begin) said += words[i].text;
    }
    const auto longer = static_cast<double>(std::max<size_t>({said.size(), kind.size(), 1}));
    best = std::min(best, static_cast<double>(edit_distance(said, kind)) / longer + (skip == begin ? 0.0 : kLeftOut));
  }
  return best;
}

/// The shown name that the text comes nearest to; its words, and those of its size, are marked as taken.
Product nearest_product(std::vector<Word>& words, const std::vector<std::string>& catalog) {
  Product best;
  std::optional<size_t> best_size;
  size_t best_size_words = 0;
  for (size_t n = 0; n < catalog.size(); ++n) {
    const Name name = name_of(catalog[n]);
    const auto size_at = find_run(words, name.size);
    const double unsaid = name.size.empty() || size_at ? 0.0 : kSizeUnsaid;
    for (size_t begin = 0; begin < words.size(); ++begin) {
      for (size_t end = begin + 1; end <= std::min(words.size(), begin + name.num_kind_words + 2); ++end) {
        const double distance = name_distance(words, begin, end, name.kind) + unsaid;
        if (distance < best.distance) {
          best = {n, begin, end, distance};
          best_size = size_at;
          best_size_words = name.size.size();
        }
      }
    }
  }
  if (best.distance > kFarthestName) return best;
  for (size_t i = best.begin; i < best.end; ++i) words[i].taken = true;
  for (size_t i = 0; best_size && i < best_size_words; ++i) words[*best_size + i].taken = true;
  return best;
}

/// The quantity that starts at word i: digits, `3x`, `x3`, a number word, a dozen.
std::optional<int64_t> number_at(const std::vector<Word>& words, size_t i, const ShopWords& known) {
  if (words[i].taken) return std::nullopt;
  for (const auto& [phrase, value] : known.phrases) {
    const size_t plus = phrase.find('+');
    if (i + 1 < words.size() && words[i].text == phrase.substr(0, plus) && words[i + 1].text == phrase.substr(plus + 1))
      return value;
  }
  for (const auto& [word, value] : known.numbers) {
    if (words[i].text == word) return value;
  }
  std::string digits = words[i].text;
  if (digits.starts_with('x')) digits.erase(0, 1);
  if (digits.ends_with('x')) digits.pop_back();
  constexpr size_t kMaxDigits = 9;
  if (is_number(digits) && digits.size() <= kMaxDigits) return std::stoll(digits);
  return std::nullopt;
}

/// Words of the correction ("no", "ich meine") that starts at word i; 0: none does.
size_t correction_at(const std::vector<Word>& words, size_t i, const ShopWords& known) {
  for (const std::string_view key : known.corrections) {
    const size_t plus = key.find('+');
    if (words[i].text != key.substr(0, plus)) continue;
    if (plus == std::string_view::npos) return 1;
    if (i + 1 < words.size() && words[i + 1].text == key.substr(plus + 1)) return 2;
  }
  return 0;
}

/// The number after the last correction that follows a number.
std::optional<int64_t> corrected(const std::vector<Word>& words, const ShopWords& known) {
  std::optional<int64_t> found;
  bool number_before = false;
  for (size_t i = 0; i < words.size(); ++i) {
    number_before = number_before || number_at(words, i, known);
    const size_t length = number_before ? correction_at(words, i, known) : 0;
    if (length == 0) continue;
    for (size_t j = i + length; j < std::min(words.size(), i + length + kCorrectionReach); ++j) {
      const auto number = words[j].sentence == words[i].sentence ? number_at(words, j, known) : std::nullopt;
      if (number) {
        found = number;
        break;
      }
    }
  }
  return found;
}

Json quantity_of(const std::vector<Word>& words, const Product& product, const ShopWords& known) {
  if (const auto number = corrected(words, known)) return *number;
  size_t free_words = 0;
  for (size_t i = product.begin;
       i-- > 0 && free_words < kNumberReach && words[i].sentence == words[product.begin].sentence;) {
    if (words[i].taken) continue;
    const bool all = std::find(known.all.begin(), known.all.end(), words[i].text) != known.all.end();
    if (all && !words[i].mark_after) return "all";  // not "hola a todos, ..."
    if (const auto number = number_at(words, i, known)) {
      const bool half = i > 0 && words[i - 1].text == "half";  // "half a dozen" also reads "a dozen"
      return half ? number_at(words, i - 1, known).value_or(*number) : *number;
    }
    ++free_words;
  }
  for (size_t i = product.end; i < std::min(words.size(), product.end + kNumberReach); ++i) {
    if (words[i].text.starts_with('x') && !words[i].taken) {
      if (const auto number = number_at(words, i, known)) return *number;
    }
  }
  return 1;
}

}  // namespace

std::string shop_answer(const std::string& action, const Json& product, const Json& quantity) {
  Json out = Json::object();
  out["action"] = action;
  out["product"] = product;
  out["quantity"] = quantity;
  return dump_spaced(out);
}

std::string predict_shop_rules(std::string_view text, std::string_view lang, const std::vector<std::string>& catalog) {
  const std::string none = shop_answer("none", nullptr, nullptr);
  const ShopWords* known = shop_words(lang);
  std::vector<Word> words = words_of(text);
  if (!known || words.empty() || catalog.empty()) return none;
  const Product product = nearest_product(words, catalog);
  if (product.distance > kFarthestName) return none;
  const char* action = action_of(words, *known);
  if (!action) return none;
  const Json quantity = quantity_of(words, product, *known);
  if (quantity.is_number() && quantity.get<int64_t>() < 1) return none;
  return shop_answer(action, catalog[product.index], quantity);
}

std::string predict_shop_rules(const Row& row) {
  return predict_shop_rules(row.text, row.lang, row.catalog);
}

}  // namespace slmi::data
