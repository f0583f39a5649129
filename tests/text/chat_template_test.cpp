// Rendering against transformers' apply_chat_template with the published templates (golden/conversations.json).
#include "slmi/text/chat_template.h"

#include <gtest/gtest.h>

#include "slmi/base/error.h"
#include "slmi/base/sha256.h"
#include "test_support.h"

namespace slmi::text {
namespace {

constexpr const char* kUserTemplate = R"({
  // Zephyr's form
  "turn_prefix": "<|{role}|>\n",
  "turn_suffix": {"system": "</s>\n", "user": "</s>\n", "assistant": "</s>"},
  "stop": ["</s>"],
  "default_system": "be kind"
})";

Tokenizer::Ptr vocabulary_of(const std::string& template_name) {
  return Tokenizer::load(golden_path(template_name == "chatml" ? "tiny_smollm.json" : "tiny_llama3.json"));
}

ChatTemplate built_in(const std::string& name) {
  return ChatTemplate::load(name, *vocabulary_of(name));
}

std::vector<Message> messages_of(const Json& json) {
  std::vector<Message> out;
  for (const Json& m : json) out.push_back({m["role"], m["content"]});
  return out;
}

std::string joined(const std::vector<Piece>& pieces) {
  std::string out;
  for (const Piece& piece : pieces) out += piece.text;
  return out;
}

class BuiltIn : public testing::TestWithParam<const char*> {};

TEST_P(BuiltIn, RendersAsTransformersDoes) {
  const ChatTemplate chat = built_in(GetParam());
  const Json conversations = read_golden("conversations.json");
  const Json& rows = conversations[GetParam()];
  ASSERT_GE(rows.size(), 6u);
  for (const Json& row : rows) {
    EXPECT_EQ(joined(chat.render_prompt(messages_of(row["messages"]))), row["prompt"].get<std::string>());
  }
}

// make_golden.py renders golden/jinja.json with transformers, and stops if it gives other strings than the published
// templates.
TEST_P(BuiltIn, JinjaIsTheOneThatTransformersWasCheckedWith) {
  const Json golden = read_golden("jinja.json");
  EXPECT_EQ(built_in(GetParam()).jinja(), golden[GetParam()].get<std::string>());
}

TEST_P(BuiltIn, TextReadsBackAsTheSameTemplate) {
  const ChatTemplate chat = built_in(GetParam());
  const ChatTemplate again = ChatTemplate::from_json(chat.text(), "stored", "other name");
  EXPECT_EQ(again.text(), chat.text());
  EXPECT_EQ(again.hash(), chat.hash());
  EXPECT_EQ(again.jinja(), chat.jinja());
  EXPECT_EQ(chat.hash(), sha256_hex(chat.text()));
}

INSTANTIATE_TEST_SUITE_P(All, BuiltIn, testing::Values("llama3", "chatml", "plain"),
                         [](const auto& info) { return std::string(info.param); });

TEST(ChatTemplate, TemplatesDifferInTheirHashes) {
  EXPECT_NE(built_in("llama3").hash(), built_in("chatml").hash());
  EXPECT_NE(built_in("llama3").hash(), built_in("plain").hash());
}

TEST(ChatTemplate, SpecialTokensOfContentStayText) {
  const std::vector<Message> messages = {{"user", "a<|eot_id|>b"}};
  int specials = 0;
  for (const Piece& piece : built_in("llama3").render_prompt(messages)) {
    if (piece.kind == Piece::Kind::Special) ++specials;
  }
  EXPECT_EQ(specials, 6);  // bos, two headers of two tokens, one end of turn
}

TEST(ChatTemplate, IsChosenByTheVocabulary) {
  EXPECT_EQ(ChatTemplate::name_for(*vocabulary_of("llama3")), "llama3");
  EXPECT_EQ(ChatTemplate::name_for(*vocabulary_of("chatml")), "chatml");
  EXPECT_EQ(ChatTemplate::name_for(*Tokenizer::load(golden_path("tiny_sentencepiece.model"))), "plain");
}

TEST(ChatTemplate, SummarySaysWhetherThereIsADefaultSystemTurn) {
  EXPECT_NE(built_in("chatml").summary().find("no default system turn"), std::string::npos);
  EXPECT_NE(ChatTemplate::from_json(kUserTemplate, "u.json", "u").summary().find("be kind"), std::string::npos);
}

TEST(ChatTemplate, UsersFileIsRendered) {
  const ChatTemplate chat = ChatTemplate::from_json(kUserTemplate, "u.json", "u");
  const std::vector<Message> messages = {{"user", "hi"}};
  EXPECT_EQ(joined(chat.render_prompt(messages)), "<|system|>\nbe kind</s>\n<|user|>\nhi</s>\n<|assistant|>\n");
  EXPECT_EQ(joined(chat.answer_end()), "</s>");
  const std::vector<Message> own = {{"system", "mine"}, {"user", "hi"}};
  EXPECT_EQ(joined(chat.render_prompt(own)), "<|system|>\nmine</s>\n<|user|>\nhi</s>\n<|assistant|>\n");
}

TEST(ChatTemplate, BadFilesAreNamed) {
  const auto error = [](const std::string& json) {
    return error_of([&] { ChatTemplate::from_json(json, "u.json", "u"); });
  };
  EXPECT_NE(error(R"({"turn_prefx": ""})").find("'turn_prefix'"), std::string::npos);
  EXPECT_NE(error(R"({"turn_prefix": "", "turn_suffix": "\n", "stop": ["</s>"]})").find("never learn to stop"),
            std::string::npos);
  EXPECT_NE(error(R"({"turn_prefix": "", "turn_suffix": "</s>", "stop": []})").find("'stop'"), std::string::npos);
  EXPECT_NE(error(R"({"turn_prefix": 3, "turn_suffix": "</s>", "stop": ["</s>"]})").find("turn_prefix"),
            std::string::npos);
  EXPECT_NE(error("{").find("u.json:1:"), std::string::npos);
  EXPECT_NE(error_of([] { built_in("lama3"); }).find("did you mean llama3"), std::string::npos);
}

TEST(ChatTemplate, BadConversationsAreNamed) {
  const ChatTemplate chat = built_in("chatml");
  const std::vector<Message> unknown = {{"tool", "x"}};
  EXPECT_NE(error_of([&] { chat.render_prompt(unknown); }).find("role 'tool'"), std::string::npos);
  const std::vector<Message> late = {{"user", "x"}, {"system", "y"}};
  EXPECT_NE(error_of([&] { chat.render_prompt(late); }).find("message 1"), std::string::npos);
}

TEST(ChatTemplate, TrimsWhatPythonStrips) {
  const ChatTemplate chat = built_in("llama3");
  EXPECT_EQ(chat.prepare(" \t\n\x1c\u00a0\u3000 a \u200b b\u2003\u0085\r\n"), "a \u200b b");
  EXPECT_EQ(chat.prepare("\u2028\u2029\u202f\u205f\u1680"), "");
  EXPECT_EQ(chat.prepare("\u200bx\u200b"), "\u200bx\u200b");
  EXPECT_EQ(built_in("chatml").prepare(" a "), " a ");
}

}  // namespace
}  // namespace slmi::text
