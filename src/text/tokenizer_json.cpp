// tokenizer.json (Hugging Face tokenizers) with a byte-level BPE model: what it asks for is matched against what we
// know, and anything else is refused by name.
#include "tokenizer_json.h"

#include "bpe_tokenizer.h"
#include "byte_alphabet.h"
#include "slmi/base/error.h"
#include "vocabulary_files.h"

namespace slmi::text {
namespace {

using Tree = nlohmann::json;

/// A member, or null.
const Tree& member(const Tree& object, const char* key) {
  static const Tree kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

std::string string_member(const Tree& object, const char* key) {
  const Tree& value = member(object, key);
  return value.is_string() ? value.get<std::string>() : std::string();
}

bool flag_member(const Tree& object, const char* key, bool otherwise) {
  const Tree& value = member(object, key);
  return value.is_boolean() ? value.get<bool>() : otherwise;
}

/// Text of a value for a message, not too long.
std::string shown(const Tree& value) {
  std::string text = value.dump(-1, ' ', false, Tree::error_handler_t::replace);
  if (text.size() > 300) text = text.substr(0, 300) + "...";
  return text;
}

class Reader {
 public:
  Reader(TokenizerJson json, const std::string& source, const TokenizerConfig& config)
      : json_(std::move(json)), source_(source), config_(config), model_(member(json_.rest, "model")) {}

  Tokenizer::Ptr read() {
    check_model();
    auto tokenizer = std::make_shared<BpeTokenizer>(split_pattern(), source_);
    add_vocabulary(*tokenizer);
    add_added_tokens(*tokenizer);
    tokenizer->index_tokens();
    tokenizer->set_merges(merges(*tokenizer), rules());
    set_roles(*tokenizer);
    return tokenizer;
  }

 private:
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorKind::Input, "{}: {}", source_, fmt::format(format, std::forward<Args>(args)...));
  }

  void check_model() const {
    if (!json_.rest.is_object() || !model_.is_object()) refuse("no object \"model\"; this is no tokenizer.json");
    // Files of tokenizers before 0.10 have no type for BPE.
    const Tree& type = member(model_, "type");
    if (!type.is_null() && type != "BPE") refuse("model type {} is not supported; known: BPE", shown(type));
    if (flag_member(model_, "byte_fallback", false)) {
      refuse("a BPE model with byte_fallback is SentencePiece's; give its tokenizer.model instead");
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!string_member(model_, key).empty()) refuse("model.{} is not supported", key);
    }
    if (const Tree& dropout = member(model_, "dropout"); dropout.is_number() && dropout != 0.0) {
      refuse("model.dropout is {}; ids would be random", shown(dropout));
    }
    const Tree& normalizer = member(json_.rest, "normalizer");
    const bool empty = string_member(normalizer, "type") == "Sequence" && member(normalizer, "normalizers").empty();
    if (!normalizer.is_null() && !empty) refuse("normalizer {} is not supported; known: none", shown(normalizer));
    if (json_.vocab.empty()) refuse("model.vocab is empty or missing");
  }

  /// The pre-tokenizer's steps, a Sequence's one by one.
  std::vector<const Tree*> steps() const {
    const Tree& pre = member(json_.rest, "pre_tokenizer");
    std::vector<const Tree*> out;
    if (string_member(pre, "type") == "Sequence") {
      for (const Tree& step : member(pre, "pretokenizers")) out.push_back(&step);
    } else {
      out.push_back(&pre);
    }
    return out;
  }

  SplitPattern split_pattern() const {
    const auto is_byte_level = [](const Tree& step, bool with_regex) {
      return string_member(step, "type") == "ByteLevel" && !flag_member(step, "add_prefix_space", true) &&
             flag_member(step, "use_regex", true) == with_regex;
    };
    const auto is_split = [](const Tree& step, std::string_view pattern) {
      const Tree& behavior = member(step, "behavior");
      return string_member(step, "type") == "Split" && string_member(member(step, "pattern"), "Regex") == pattern &&
             ((behavior == "Isolated" && !flag_member(step, "invert", false)) ||
              (behavior == "Removed" && flag_member(step, "invert", false)));
    };
    const auto is_digits = [](const Tree& step) {
      return string_member(step, "type") == "Digits" && flag_member(step, "individual_digits", false);
    };
    const auto all = steps();
    if (all.size() == 1 && is_byte_level(*all[0], true)) return SplitPattern::Gpt2;
    if (all.size() == 2 && is_byte_level(*all[1], false)) {
      if (is_split(*all[0], kLlama3Pattern)) return SplitPattern::Llama3;
      if (is_split(*all[0], kGpt2Pattern)) return SplitPattern::Gpt2;
    }
    if (all.size() == 2 && is_byte_level(*all[1], true) && is_digits(*all[0])) return SplitPattern::SmolLm;
    refuse("pre-tokenizer {} is not supported; known: those of Llama 3, GPT-2 and SmolLM, without added prefix space",
           shown(member(json_.rest, "pre_tokenizer")));
  }

  /// Ids must be about as many as the tokens: nothing is allocated for a number alone.
  int32_t checked_id(int64_t id, std::string_view token) const {
    const auto limit = static_cast<int64_t>(4 * json_.vocab.size() + 65536);
    if (id < 0 || id >= limit) refuse("token \"{}\" has the id {}; expected 0..{}", token, id, limit - 1);
    return static_cast<int32_t>(id);
  }

  void add_vocabulary(BpeTokenizer& tokenizer) {
    std::vector<bool> taken;
    std::string bytes;
    for (const auto& [text, number] : json_.vocab) {
      const int32_t id = checked_id(number, text);
      const auto at = static_cast<size_t>(id);
      if (at >= taken.size()) taken.resize(at + 1);
      if (taken[at]) refuse("id {} stands twice in model.vocab, the second time for \"{}\"", id, text);
      taken[at] = true;
      bytes.clear();
      // A text outside the alphabet is an added token that also stands here; where it is not added, it is unreachable.
      const bool ordinary = append_alphabet_bytes(text, bytes);
      tokenizer.set_token(id, ordinary ? bytes : text,
                          ordinary ? BpeTokenizer::Type::Normal : BpeTokenizer::Type::Unused);
    }
  }

  void add_added_tokens(BpeTokenizer& tokenizer) const {
    const Tree& added = member(json_.rest, "added_tokens");
    if (!added.is_null() && !added.is_array()) refuse("added_tokens is not an array");
    for (const Tree& token : added) {
      const std::string content = string_member(token, "content");
      const Tree& id = member(token, "id");
      if (content.empty() || !id.is_number_integer()) refuse("added token {} lacks content or id", shown(token));
      const bool special = flag_member(token, "special", false);
      for (const char* key : {"lstrip", "rstrip", "single_word"}) {
        if (!special && flag_member(token, key, false)) refuse("added token \"{}\": {} is not supported", content, key);
      }
      tokenizer.set_token(checked_id(id.get<int64_t>(), content), content,
                          special ? BpeTokenizer::Type::Special : BpeTokenizer::Type::UserDefined);
    }
  }

  std::vector<Merge> merges(const BpeTokenizer& tokenizer) const {
    std::vector<Merge> out;
    out.reserve(json_.merges.size());
    std::string bytes;
    for (size_t i = 0; i < json_.merges.size(); ++i) {
      const auto& [left, right] = json_.merges[i];
      bytes.clear();
      const bool known_left = append_alphabet_bytes(left, bytes);
      const size_t cut = bytes.size();
      const bool known = known_left && append_alphabet_bytes(right, bytes);
      const std::string_view both = bytes;
      const Merge merge = known ? Merge{tokenizer.find(both.substr(0, cut)), tokenizer.find(both.substr(cut)),
                                        tokenizer.find(both), static_cast<uint32_t>(i)}
                                : Merge{-1, -1, -1, 0};
      if (merge.left < 0 || merge.right < 0 || merge.merged < 0) {
        refuse("merge {} (\"{}\" and \"{}\"): a part, or the two together, is not in the vocabulary", i, left, right);
      }
      out.push_back(merge);
    }
    return out;
  }

  BpeRules rules() const {
    BpeRules out;
    out.whole = flag_member(model_, "ignore_merges", false) ? WholePiece::Take : WholePiece::MustMerge;
    const std::string unknown = string_member(model_, "unk_token");
    if (unknown.empty()) return out;
    if (flag_member(model_, "fuse_unk", false)) refuse("model.fuse_unk is not supported");
    for (const auto& [text, id] : json_.vocab) {
      if (text == unknown) out.unknown = static_cast<int32_t>(id);
    }
    if (!out.unknown) refuse("model.unk_token \"{}\" is not in the vocabulary", unknown);
    return out;
  }

  /// The special token that the post-processor puts in front of a text; empty if none.
  std::string leading_special() const {
    const Tree& post = member(json_.rest, "post_processor");
    std::vector<const Tree*> processors = {&post};
    for (const Tree& inner : member(post, "processors")) processors.push_back(&inner);
    for (const Tree* processor : processors) {
      const Tree& single = member(*processor, "single");
      if (string_member(*processor, "type") == "TemplateProcessing" && single.is_array() && !single.empty()) {
        return string_member(member(single[0], "SpecialToken"), "id");
      }
    }
    return {};
  }

  void set_roles(BpeTokenizer& tokenizer) const {
    const auto id = [&](const std::optional<std::string>& name) {
      return name ? tokenizer.special(*name) : std::nullopt;
    };
    const std::string leading = leading_special();
    const std::optional<std::string> bos = config_.bos || leading.empty() ? config_.bos : std::optional(leading);
    tokenizer.set_roles(id(bos), id(config_.eos), id(config_.pad), config_.add_bos.value_or(!leading.empty()));
  }

  TokenizerJson json_;
  const std::string& source_;
  const TokenizerConfig& config_;
  const Tree& model_;
};

}  // namespace

Tokenizer::Ptr read_tokenizer_json(std::string_view json, const std::string& source, const TokenizerConfig& config) {
  return Reader(parse_tokenizer_json(json, source), source, config).read();
}

}  // namespace slmi::text
