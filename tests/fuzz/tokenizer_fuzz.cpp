// Fuzz target: tokenizer.json, tiktoken files and template files. Errors are Error{Input} that name the file; what
// loads must encode any text to ids of its own vocabulary, which spell the text where every byte has a token.
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>

#include "slmi/base/error.h"
#include "slmi/base/json.h"
#include "slmi/text/chat_template.h"
#include "slmi/text/prompt_builder.h"
#include "slmi/text/tokenizer.h"

namespace {

using namespace slmi::text;

constexpr std::string_view kText = "Don't  stop: 12345 eggs\r\n\n\t<s> \xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80 x  ";

void check(bool condition) {
  if (!condition) std::abort();
}

/// Runs `action`; it may throw Error{Input} that names the file, and nothing else.
void allow_input_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const slmi::Error& e) {
    check(e.kind() == slmi::ErrorKind::Input);
    check(std::string_view(e.what()).starts_with("f:") || std::string_view(e.what()).starts_with("template "));
  }
}

/// With a token for every byte and no unknown token, the ids spell the text.
bool spells(const Tokenizer& tokenizer) {
  for (int b = 0; b < 128; ++b) {
    const char c = static_cast<char>(b);
    const auto ids = tokenizer.encode({&c, 1});
    if (ids.size() != 1 || tokenizer.token_bytes(ids[0]) != std::string_view(&c, 1)) return false;
  }
  return true;
}

void use(const Tokenizer& tokenizer, std::string_view text, bool must_spell) {
  const auto ids = tokenizer.encode(text);
  std::string spelled;
  for (const int32_t id : ids) {
    check(id >= 0 && id < tokenizer.vocab_size());
    spelled += tokenizer.token_bytes(id);
  }
  if (must_spell) check(spelled == text);
  check(slmi::is_valid_utf8(tokenizer.decode(ids, Specials::Keep)));
}

void try_tokenizer(const Tokenizer::Ptr& tokenizer, std::string_view bytes) {
  use(*tokenizer, kText, false);
  use(*tokenizer, std::string(150, 'a') + "b" + std::string(150, ' '), spells(*tokenizer));
  if (slmi::is_valid_utf8(bytes)) use(*tokenizer, bytes, false);
  check(tokenizer->hash().size() == 64);
  const std::string name = ChatTemplate::name_for(*tokenizer);
  allow_input_error([&] {
    ChatTemplate chat = ChatTemplate::load(name, *tokenizer);
    const Encoded row = PromptBuilder(tokenizer, chat).build(kText, "yes");
    check(row.prefix_len <= row.target_begin && row.target_begin < static_cast<int64_t>(row.ids.size()));
  });
}

void try_template(std::string_view bytes) {
  const ChatTemplate chat = ChatTemplate::from_json(bytes, "f", "f");
  const Message messages[] = {{"system", "a"}, {"user", std::string(kText)}};
  check(!chat.answer_end().empty());
  check(!chat.jinja().empty());
  chat.render_prompt(messages);
  check(ChatTemplate::from_json(chat.text(), "f", "f").hash() == chat.hash());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (bytes.starts_with("{")) {
    allow_input_error([&] { try_tokenizer(Tokenizer::from_tokenizer_json(bytes, "f"), bytes); });
    allow_input_error([&] { try_template(bytes); });
  } else {
    allow_input_error([&] { try_tokenizer(Tokenizer::from_tiktoken(bytes, "f"), bytes); });
  }
  return 0;
}
