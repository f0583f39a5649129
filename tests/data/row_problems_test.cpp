// Every kind of bad row, with the file, line and column that its message must name.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "slmi/base/error.h"
#include "slmi/data/row_reader.h"

namespace slmi::data {
namespace {

using namespace std::string_literals;

std::string error_of(const std::string& text, const ReadOptions& options = {}) {
  try {
    parse_rows(text, "d.jsonl", options);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Input);
    return e.what();
  }
  return "no error";
}

struct BadRow {
  std::string name;
  std::string text;
  std::string message;  // the whole of it
};

class BadRows : public ::testing::TestWithParam<BadRow> {};

TEST_P(BadRows, NamesFileLineAndColumn) {
  // A good row before it: the bad one is line 2.
  EXPECT_EQ(error_of("{\"text\":\"ok\",\"intent\":\"i\"}\n" + GetParam().text + "\n"),
            "d.jsonl:2:" + GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, BadRows,
    ::testing::Values(
        BadRow{"NotAnObject", "  [1]", "3: an array where a row, an object, should be"},
        BadRow{"NulByte", "{\"text\":\"a\0b\",\"intent\":\"i\"}"s, "11: a NUL byte; not a text file, or damaged"},
        BadRow{"RepeatedKey", R"({"text":"a","intent":"i","text":"b"})", R"(26: key "text" stands twice)"},
        BadRow{"RepeatedKeyInSlots", R"({"text":"a","intent":"i","slots":{"x":"1","x":"2"}})",
               R"(43: key "x" stands twice)"},
        BadRow{"NoRequest", R"({"intent":"i"})",
               "1: neither 'text' nor 'messages' nor 'prompt'; name the request's key with --text-field"},
        BadRow{"TextOfWrongType", R"({"intent":"i", "text": 5})", "24: 'text' is a number, not a string"},
        BadRow{"EmptyText", R"({"text":"","intent":"i"})", "9: 'text' is empty"},
        BadRow{"TextOfSpaces", R"({"intent":"i","text":" \t\n"})", "22: 'text' is empty"},
        BadRow{"NoTarget", R"({"text":"a"})", "1: no target: neither 'answer' nor 'intent'"},
        BadRow{"NullTarget", R"({"text":"a","answer":null,"intent":null})",
               "1: no target: neither 'answer' nor 'intent'"},
        BadRow{"AnswerOfWrongType", R"({"text":"a","answer":true})", "22: 'answer' is true or false, not a string"},
        BadRow{"EmptyAnswer", R"({"text":"a","answer":""})", "22: 'answer' is empty"},
        BadRow{"IntentOfWrongType", R"({"text":"a","intent":["i"]})", "22: 'intent' is an array, not a string"},
        BadRow{"IdOfWrongType", R"({"id":1.5,"text":"a","intent":"i"})",
               "7: 'id' is a number, not a string or an integer"},
        BadRow{"LangOfWrongType", R"({"lang":3,"text":"a","intent":"i"})", "9: 'lang' is a number, not a string"},
        BadRow{"OosOfWrongType", R"({"oos":"no","text":"a","intent":"i"})", "8: 'oos' is a string, not true or false"},
        BadRow{"SlotsOfWrongType", R"({"text":"a","intent":"i","slots":[]})", "34: 'slots' is an array, not an object"},
        BadRow{"SlotOfWrongType", R"({"text":"a","intent":"i","slots":{"a":"1","n":2}})",
               "47: slot 'n' is a number, not a string or an array of strings"},
        BadRow{"SlotAfterEscapes", R"({"text":"\"]},\\\"","a":[{"b":"}"},-1],"slots":{"\u0061\"":1}, "intent":"i"})",
               "60: slot 'a\"' is a number, not a string or an array of strings"},
        BadRow{"SlotItemOfWrongType", R"({"text":"a","intent":"i","slots":{"n":["1",{}]}})",
               "44: slot 'n' holds an object, not a string"},
        BadRow{"ActionsOfWrongType", R"({"actions":{},"text":"a","intent":"i"})",
               "12: 'actions' is an object, not an array"},
        BadRow{"ActionOfWrongType", R"({"actions":[{},"x"],"text":"a","intent":"i"})",
               "16: 'actions' holds a string, not an object"},
        BadRow{"CatalogOfWrongType", R"({"catalog":"tea","text":"a","intent":"i"})",
               "12: 'catalog' is a string, not an array of names"},
        BadRow{"CatalogNameOfWrongType", R"({"catalog":["tea",1],"text":"a","intent":"i"})",
               "19: a name in 'catalog' is a number, not a string"},
        BadRow{"NoCompletion", R"({"prompt":"a"})", "1: no target: no 'completion'"},
        BadRow{"PromptOfWrongType", R"({"prompt":[],"completion":"b"})", "11: 'prompt' is an array, not a string"},
        BadRow{"MessagesOfWrongType", R"({"messages":"hi"})", "13: 'messages' is a string, not an array of messages"},
        BadRow{"NoMessages", R"({"messages":[]})", "13: 'messages' is empty, not an array of messages"},
        BadRow{"MessageOfWrongType", R"({"messages":["hi"]})", "14: a message is a string, not an object"},
        BadRow{"MessageWithoutContent", R"({"messages":[{"role":"user"}]})", "14: a message without 'content'"},
        BadRow{"MessageWithoutRole", R"({"messages":[{"content":"user"}]})", "14: a message without 'role'"},
        BadRow{"UnknownRole", R"({"messages":[{"role":"tool","content":"x"}]})",
               "22: role 'tool'; expected system, user or assistant"},
        BadRow{"ContentOfWrongType", R"({"messages":[{"role":"user","content":[]}]})",
               "39: 'content' is an array, not a string"},
        BadRow{"LateSystemTurn", R"({"messages":[{"role":"user","content":"u"},{"role":"system","content":"s"}]})",
               "52: a system message after the first message"},
        BadRow{"NoAnswerInChat", R"({"messages":[{"role":"user","content":"u"}]})",
               "14: no target: the last message is not the assistant's"},
        BadRow{"NoUserInChat", R"({"messages":[{"role":"assistant","content":"a"}]})",
               "14: no message of the user before the answer"}),
    [](const auto& info) { return info.param.name; });

TEST(RowProblems, BrokenLine) {
  EXPECT_TRUE(
      error_of("{\"text\":\"a\",\"intent\":\"i\"}\n{\"text\": \"a\",\n").starts_with("d.jsonl:2:14: not valid JSON: "))
      << error_of("{\"text\":\"a\",\"intent\":\"i\"}\n{\"text\": \"a\",\n");
  EXPECT_TRUE(error_of("{\"text\": x}\n").starts_with("d.jsonl:1:10: not valid JSON: "));
  EXPECT_TRUE(error_of("{\"text\":\"a\",\"intent\":\"i\"} {}\n").starts_with("d.jsonl:1:27: not valid JSON: "));
}

TEST(RowProblems, NotUtf8) {
  const std::string message = error_of("{\"text\":\"a\xFF\",\"intent\":\"i\"}\n");
  EXPECT_TRUE(message.starts_with("d.jsonl:1:11: not valid JSON: ")) << message;
  EXPECT_NE(message.find("UTF-8"), std::string::npos) << message;
}

TEST(RowProblems, NestedTooDeep) {
  const std::string message = error_of("{\"text\":" + std::string(5000, '[') + std::string(5000, ']') + "}");
  EXPECT_TRUE(message.starts_with("d.jsonl:1:")) << message;
  EXPECT_NE(message.find("nested deeper"), std::string::npos) << message;
}

TEST(RowProblems, ByteOrderMarkAndUtf16) {
  EXPECT_EQ(error_of("\xEF\xBB\xBF{\"text\":\"a\",\"intent\":\"i\"}\n"),
            "d.jsonl:1:1: starts with a byte-order mark; save it as UTF-8 without one");
  EXPECT_EQ(error_of("\xFF\xFE{\0"s), "d.jsonl:1:1: is UTF-16; save it as UTF-8");
}

TEST(RowProblems, NoRows) {
  EXPECT_EQ(error_of(""), "d.jsonl:1:1: holds no rows");
  EXPECT_EQ(error_of(" \n\r\n"), "d.jsonl:1:1: holds no rows");
}

TEST(RowProblems, RepeatedId) {
  EXPECT_EQ(
      error_of("{\"id\":\"x\",\"text\":\"a\",\"intent\":\"i\"}\n{\"text\":\"b\",\"intent\":\"i\",\"id\":\"x\"}\n"),
      "d.jsonl:2:31: id 'x' stands already at d.jsonl:1");
  EXPECT_EQ(error_of("{\"text\":\"a\",\"intent\":\"i\"}\n{\"id\":\"d-1\",\"text\":\"b\",\"intent\":\"i\"}\n"),
            "d.jsonl:2:7: id 'd-1' stands already at d.jsonl:1");
}

TEST(RowProblems, ErrorsOfCrLfFilesHaveTheSamePlaces) {
  EXPECT_EQ(error_of("{\"text\":\"a\",\"intent\":\"i\"}\r\n{\"text\":\"a\"}\r\n"),
            "d.jsonl:2:1: no target: neither 'answer' nor 'intent'");
}

TEST(RowProblems, AllInOneReport) {
  EXPECT_EQ(error_of("{\"text\":1,\"intent\":2}\n{\"text\":\"a\",\"intent\":\"i\"}\n{\"id\":[],\"text\":\"a\"}\n"),
            "d.jsonl:1:20: 'intent' is a number, not a string\n"
            "d.jsonl:1:9: 'text' is a number, not a string\n"
            "d.jsonl:3:7: 'id' is an array, not a string or an integer\n"
            "d.jsonl:3:1: no target: neither 'answer' nor 'intent'\n"
            "4 problems; nothing was read");
}

TEST(RowProblems, ManyAreCounted) {
  std::string text;
  for (int i = 0; i < 120; ++i) text += "{\"text\":\"a\"}\n";
  const std::string message = error_of(text);
  EXPECT_NE(message.find("d.jsonl:50:1: no target"), std::string::npos);
  EXPECT_EQ(message.find("d.jsonl:51:1: no target"), std::string::npos);
  EXPECT_TRUE(message.ends_with("\n... and 70 more\n120 problems; nothing was read")) << message;
}

TEST(RowProblems, OtherFieldNamesAreNamed) {
  EXPECT_EQ(error_of(R"({"text":"a"})", {.text_field = "q", .answer_field = "label"}),
            "d.jsonl:1:1: neither 'q' nor 'messages' nor 'prompt'; name the request's key with --text-field");
  EXPECT_EQ(error_of(R"({"q":"a"})", {.text_field = "q", .answer_field = "label"}),
            "d.jsonl:1:1: no target: neither 'label' nor 'intent'");
}

}  // namespace
}  // namespace slmi::data
