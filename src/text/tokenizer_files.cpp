// Writing tokenizer.json, tokenizer.model and tokenizer_config.json; see the header.
#include "slmi/text/tokenizer_files.h"

#include <algorithm>
#include <array>

#include "protobuf.h"
#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/base/json.h"
#include "slmi/base/mapped_file.h"
#include "splitter.h"
#include "vocabulary_files.h"

namespace slmi::text {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "tokenizer_config.json";
/// What a directory may hold of a tokenizer and what is carried over from one to the next.
constexpr std::array<const char*, 7> kVocabularyFiles = {
    "tokenizer.json",    "tokenizer.model", kConfig,     "special_tokens_map.json",
    "added_tokens.json", "vocab.json",      "merges.txt"};
/// A template in a file of its own goes before the one in tokenizer_config.json: never carried over.
constexpr std::array<const char*, 2> kTemplateFiles = {"chat_template.jinja", "chat_template.json"};

std::string quoted(std::string_view text) {
  return Json(text).dump();
}

std::string name_of(const Tokenizer& tokenizer, int32_t id) {
  return std::string(tokenizer.token_bytes(id));
}

/// A tokenizer_config.json for a vocabulary that brings none.
Json new_config(const Tokenizer& tokenizer, const char* tokenizer_class) {
  Json json = Json::object();
  if (*tokenizer_class != '\0') json["tokenizer_class"] = tokenizer_class;
  const auto role = [&](const char* key, std::optional<int32_t> id) {
    if (id) json[key] = name_of(tokenizer, *id);
  };
  role("bos_token", tokenizer.bos_id());
  role("eos_token", tokenizer.eos_id());
  role("pad_token", tokenizer.pad_id());
  json["add_bos_token"] = tokenizer.wants_bos();
  json["clean_up_tokenization_spaces"] = false;
  return json;
}

void write_config(const fs::path& directory, Json json, const ChatTemplate& chat_template) {
  json["chat_template"] = chat_template.jinja();
  write_file_atomically(directory / kConfig, json.dump(2) + "\n");
}

/// The pre-tokenizer as the published tokenizer.json files of these models write it.
Json pre_tokenizer(const std::string& splitter) {
  const auto byte_level = [](bool use_regex) {
    return Json{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
  };
  if (splitter == split_pattern_name(SplitPattern::Gpt2)) return byte_level(true);
  Json steps = Json::array();
  if (splitter == split_pattern_name(SplitPattern::SmolLm)) {
    steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
    steps.push_back(byte_level(true));
  } else {
    const Json pattern = {{"Regex", kLlama3Pattern}};
    steps.push_back({{"type", "Split"}, {"pattern", pattern}, {"behavior", "Isolated"}, {"invert", false}});
    steps.push_back(byte_level(false));
  }
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

/// Puts the bos token in front of a text where the vocabulary asks for it; else null.
Json post_processor(const Tokenizer& tokenizer) {
  if (!tokenizer.wants_bos() || !tokenizer.bos_id()) return nullptr;
  const std::string name = name_of(tokenizer, *tokenizer.bos_id());
  const auto special = [&](int type) { return Json{{"SpecialToken", {{"id", name}, {"type_id", type}}}}; };
  const auto sequence = [](const char* id, int type) { return Json{{"Sequence", {{"id", id}, {"type_id", type}}}}; };
  const Json token = {{"id", name}, {"ids", Json::array({*tokenizer.bos_id()})}, {"tokens", Json::array({name})}};
  return {{"type", "TemplateProcessing"},
          {"single", Json::array({special(0), sequence("A", 0)})},
          {"pair", Json::array({special(0), sequence("A", 0), special(1), sequence("B", 1)})},
          {"special_tokens", {{name, token}}}};
}

Json added_tokens(const Tokenizer& tokenizer) {
  Json out = Json::array();
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!tokenizer.is_special(id) && !tokenizer.is_user_defined(id)) continue;
    out.push_back({{"id", id},
                   {"content", name_of(tokenizer, id)},
                   {"single_word", false},
                   {"lstrip", false},
                   {"rstrip", false},
                   {"normalized", false},
                   {"special", tokenizer.is_special(id)}});
  }
  return out;
}

/// The text of a tokenizer.json. The two long lists are put in as text: they are the file's own strings.
std::string tokenizer_json(const formats::GgufFile& file, const Tokenizer& tokenizer) {
  const auto tokens = file.value("tokenizer.ggml.tokens").strings();
  const auto merges = file.value("tokenizer.ggml.merges").strings();
  const bool llama3 = tokenizer.splitter_name() == split_pattern_name(SplitPattern::Llama3);
  const Json decoder = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
  std::string out = "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null";
  const auto add = [&](const char* key, const Json& value) {
    out += fmt::format(",\n  \"{}\": {}", key, value.dump());
  };
  add("added_tokens", added_tokens(tokenizer));
  add("normalizer", nullptr);
  add("pre_tokenizer", pre_tokenizer(tokenizer.splitter_name()));
  add("post_processor", post_processor(tokenizer));
  add("decoder", decoder);
  out += fmt::format(
      ",\n  \"model\": {{\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n    "
      "\"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n    "
      "\"byte_fallback\": false,\n    \"ignore_merges\": {},\n    \"vocab\": {{",
      llama3);
  const char* separator = "\n      ";
  for (size_t i = 0; i < tokens.size(); ++i) {
    // Ids that stand for nothing (padding of the vocabulary) have no entry: an entry would make them ordinary tokens.
    if (tokenizer.token_bytes(static_cast<int32_t>(i)).empty()) continue;
    out += fmt::format("{}{}: {}", separator, quoted(tokens[i]), i);
    separator = ",\n      ";
  }
  out += "\n    },\n    \"merges\": [";
  for (size_t i = 0; i < merges.size(); ++i) out += (i == 0 ? "\n      " : ",\n      ") + quoted(merges[i]);
  return out + "\n    ]\n  }\n}\n";
}

/// A "llama" vocabulary as a SentencePiece model (sentencepiece_model.proto), with the rules that GGUF implies.
std::string sentencepiece_model(const formats::GgufFile& file) {
  const auto texts = file.value("tokenizer.ggml.tokens").strings();
  const auto scores = file.value("tokenizer.ggml.scores").floats();
  const auto types = file.value("tokenizer.ggml.token_type").ints();
  const auto flag = [&](const char* key, bool otherwise) {
    const auto* value = file.find(key);
    return value != nullptr ? value->as_bool() : otherwise;
  };
  ProtoWriter out;
  bool byte_fallback = false;
  uint64_t unknown = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    ProtoWriter piece;
    piece.add_bytes(1, texts[i]);
    piece.add_float(2, scores[i]);
    piece.add_int(3, static_cast<uint64_t>(types[i]));
    out.add_bytes(1, piece.bytes());
    byte_fallback = byte_fallback || types[i] == kByte;
    if (types[i] == kUnknown) unknown = i;
  }
  const auto role = [&](const char* key, std::string_view name) -> uint64_t {
    if (const auto id = gguf_token_id(file, key, static_cast<int64_t>(texts.size()))) return static_cast<uint64_t>(*id);
    const auto found = std::find(texts.begin(), texts.end(), name);
    return found == texts.end() ? ~uint64_t{0} : static_cast<uint64_t>(found - texts.begin());  // -1: none
  };
  ProtoWriter trainer;
  trainer.add_int(3, 2);  // BPE
  trainer.add_int(4, texts.size());
  trainer.add_int(35, byte_fallback ? 1 : 0);
  trainer.add_int(40, unknown);
  trainer.add_int(41, role("tokenizer.ggml.bos_token_id", "<s>"));
  trainer.add_int(42, role("tokenizer.ggml.eos_token_id", "</s>"));
  trainer.add_bytes(45, texts[unknown]);
  ProtoWriter normalizer;
  normalizer.add_bytes(1, "identity");
  normalizer.add_int(3, flag("tokenizer.ggml.add_space_prefix", true) ? 1 : 0);
  normalizer.add_int(4, flag("tokenizer.ggml.remove_extra_whitespaces", false) ? 1 : 0);
  normalizer.add_int(5, 1);
  out.add_bytes(2, trainer.bytes());
  out.add_bytes(3, normalizer.bytes());
  return out.bytes();
}

bool is_gguf(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored) && MappedFile::open(path).text().starts_with("GGUF");
}

}  // namespace

void remove_tokenizer_files(const fs::path& directory) {
  for (const char* name : kVocabularyFiles) remove_file(directory / name);
  for (const char* name : kTemplateFiles) remove_file(directory / name);
}

void write_tokenizer_files(const fs::path& directory, const formats::GgufFile& vocabulary,
                           const ChatTemplate& chat_template) {
  const auto tokenizer = Tokenizer::from_gguf(vocabulary);
  const bool bpe = tokenizer->kind() == TokenizerKind::ByteLevelBpe;
  slmi::create_directories(directory);
  remove_tokenizer_files(directory);
  if (bpe) {
    write_file_atomically(directory / "tokenizer.json", tokenizer_json(vocabulary, *tokenizer));
  } else {
    write_file_atomically(directory / "tokenizer.model", sentencepiece_model(vocabulary));
  }
  write_config(directory, new_config(*tokenizer, bpe ? "PreTrainedTokenizerFast" : "LlamaTokenizer"), chat_template);
}

void copy_tokenizer_files(const fs::path& directory, const fs::path& from, const ChatTemplate& chat_template) {
  if (is_gguf(from)) return write_tokenizer_files(directory, formats::GgufFile::open(from), chat_template);
  const auto tokenizer = Tokenizer::load(from);
  slmi::create_directories(directory);
  remove_tokenizer_files(directory);
  const auto copy = [&](const fs::path& source, const char* name) {
    write_file_atomically(directory / name, MappedFile::open(source).text());
  };
  const bool is_directory = fs::is_directory(from);
  if (is_directory) {
    for (const char* name : kVocabularyFiles)
      if (fs::exists(from / name)) copy(from / name, name);
    // Where there is no other vocabulary, the one that lies a level deeper.
    if (!fs::exists(directory / "tokenizer.json") && !fs::exists(directory / "tokenizer.model"))
      copy(model_file_in(from), "tokenizer.model");
  } else {
    const MappedFile file = MappedFile::open(from);
    const std::string_view text = file.text();
    const size_t first = text.find_first_not_of(" \t\r\n");
    copy(from, first != std::string_view::npos && text[first] == '{' ? "tokenizer.json" : "tokenizer.model");
  }
  const fs::path config_file = (is_directory ? from : from.parent_path()) / kConfig;
  const bool has_config = is_directory || from.filename() == "tokenizer.json" || from.filename() == "tokenizer.model";
  const bool is_json = fs::exists(directory / "tokenizer.json");
  write_config(directory,
               has_config && fs::exists(config_file) ? read_json_file(config_file.string())
                                                     : new_config(*tokenizer, is_json ? "PreTrainedTokenizerFast" : ""),
               chat_template);
}

}  // namespace slmi::text
