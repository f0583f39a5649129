// Rows of every accepted form, and what they become.
#include "slmi/data/row_reader.h"
#include "slmi/base/atomic_file.h"

#include <gtest/gtest.h>

#include <fstream>

#include "slmi/base/error.h"
#include "slmi/base/parallel.h"
#include "slmi/base/sha256.h"

namespace slmi::data {
namespace {

Row only_row(const std::string& line, const ReadOptions& options = {}) {
  const RowSet set = parse_rows(line, "d.jsonl", options);
  EXPECT_EQ(set.rows.size(), 1u);
  return set.rows.at(0);
}

TEST(RowReader, IntentWithoutSlotsIsTheBareLabel) {
  const Row row = only_row(R"({"id":"a1","text":"play jazz","intent":"play_music","lang":"en","domain":"music",)"
                           R"("slice":"test_iid","oos":true})");
  EXPECT_EQ(row.id, "a1");
  EXPECT_EQ(row.answer, "play_music");
  EXPECT_FALSE(row.has_slots);
  ASSERT_EQ(row.messages.size(), 1u);
  EXPECT_EQ(row.messages[0].role, "user");
  EXPECT_EQ(row.messages[0].content, "play jazz");
  EXPECT_EQ(row.text, "play jazz");
  EXPECT_EQ(row.intent, "play_music");
  EXPECT_EQ(row.lang, "en");
  EXPECT_EQ(row.domain, "music");
  EXPECT_EQ(row.slice, "test_iid");
  EXPECT_TRUE(row.oos);
  EXPECT_TRUE(row.actions.is_null());
}

TEST(RowReader, SlotsAreNestedInTheirOwnOrder) {
  const Row row = only_row(R"({"text":"q","intent":"Rate","slots":{"z":"Früh \"x\"","a":["1","2"]}})");
  EXPECT_EQ(row.answer, R"({"intent": "Rate", "slots": {"z": "Früh \"x\"", "a": ["1", "2"]}})");
  EXPECT_TRUE(row.has_slots);
  const Row empty = only_row(R"({"text":"q","intent":"Rate","slots":{}})");
  EXPECT_EQ(empty.answer, R"({"intent": "Rate", "slots": {}})");
  EXPECT_TRUE(empty.has_slots);
  EXPECT_EQ(only_row(R"({"text":"q","intent":"Rate","slots":null})").answer, "Rate");
}

TEST(RowReader, AnswerWinsOverIntent) {
  const Row row =
      only_row(R"({"text":"q","intent":"add","answer":"{\"action\": \"add\"}","actions":[{"action":"add"}]})");
  EXPECT_EQ(row.answer, R"({"action": "add"})");
  EXPECT_EQ(row.intent, "add");
  EXPECT_EQ(row.actions.size(), 1u);
  EXPECT_EQ(only_row(R"({"text":"q","answer":{"action":"add","n":[1,2]}})").answer,
            R"({"action": "add", "n": [1, 2]})");
}

TEST(RowReader, CatalogueBecomesTheSystemTurn) {
  const std::string line = R"({"text":"two oat milks","answer":"x","catalog":["Oat milk 1 l","Tea"]})";
  const Row row = only_row(line);
  ASSERT_EQ(row.messages.size(), 2u);
  EXPECT_EQ(row.messages[0].role, "system");
  EXPECT_EQ(row.messages[0].content, std::string(kCatalogInstruction) + "\nProducts: \"Oat milk 1 l\", \"Tea\"");
  EXPECT_EQ(row.messages[1].role, "user");
  EXPECT_EQ(row.messages[1].content, "two oat milks");
  EXPECT_EQ(only_row(line, {.system_text = "Do it."}).messages[0].content,
            "Do it.\nProducts: \"Oat milk 1 l\", \"Tea\"");
  EXPECT_EQ(only_row(R"({"text":"q","answer":"x"})", {.system_text = "Do it."}).messages[0].content, "Do it.");
  const std::string quoted = R"({"text":"q","answer":"x","catalog":["12\" pizza é"]})";
  EXPECT_EQ(only_row(quoted, {.system_text = "Do it."}).messages[0].content, "Do it.\nProducts: \"12\\\" pizza é\"");
}

TEST(RowReader, ChatTakesTheLastAnswer) {
  const Row row = only_row(
      R"({"messages":[{"role":"system","content":"S"},{"role":"user","content":"u1"},)"
      R"({"role":"assistant","content":"a1"},{"role":"user","content":"u2"},{"role":"assistant","content":"a2"}]})",
      {.system_text = "not this"});
  ASSERT_EQ(row.messages.size(), 4u);
  EXPECT_EQ(row.messages[0].content, "S");
  EXPECT_EQ(row.messages[2].role, "assistant");
  EXPECT_EQ(row.text, "u2");
  EXPECT_EQ(row.answer, "a2");
  const std::string bare = R"({"messages":[{"role":"user","content":"u"},{"role":"assistant","content":"a"}]})";
  EXPECT_EQ(only_row(bare).messages.size(), 1u);
  EXPECT_EQ(only_row(bare, {.system_text = "S"}).messages.at(0).content, "S");
}

TEST(RowReader, PromptAndCompletion) {
  const Row row = only_row(R"({"prompt":"1+1=","completion":" 2"})");
  EXPECT_EQ(row.messages.at(0).content, "1+1=");
  EXPECT_EQ(row.answer, " 2");
}

TEST(RowReader, OtherFieldNames) {
  const Row row = only_row(R"({"utterance":"hi","label":"greet","text":"not this"})",
                           {.text_field = "utterance", .answer_field = "label"});
  EXPECT_EQ(row.text, "hi");
  EXPECT_EQ(row.answer, "greet");
}

TEST(RowReader, WhichFormCountsWhenSeveralStandInARow) {
  const std::string line = R"({"text":"t","prompt":"p","completion":"c","intent":"i",)"
                           R"("messages":[{"role":"user","content":"u"},{"role":"assistant","content":"a"}]})";
  EXPECT_EQ(only_row(line).answer, "a");
  EXPECT_EQ(only_row(R"({"text":"t","prompt":"p","completion":"c","intent":"i"})").answer, "i");
  EXPECT_EQ(only_row(R"({"ask":"t","intent":"i","messages":[]})", {.text_field = "ask"}).answer, "i");
}

TEST(RowReader, TargetsOnlyWhereAsked) {
  const ReadOptions options{.targets = Targets::Optional};
  EXPECT_FALSE(only_row(R"({"text":"t"})", options).has_answer);
  EXPECT_FALSE(only_row(R"({"prompt":"t"})", options).has_answer);
  const Row chat = only_row(R"({"messages":[{"role":"user","content":"u"}]})", options);
  EXPECT_FALSE(chat.has_answer);
  EXPECT_EQ(chat.messages.size(), 1u);
  EXPECT_TRUE(only_row(R"({"text":"t","intent":"i"})", options).has_answer);
}

TEST(RowReader, CrLfBlankLinesAndNoFinalNewline) {
  const RowSet set = parse_rows(
      "{\"text\":\"a\",\"intent\":\"i\"}\r\n\r\n  \n{\"id\":7,\"text\":\"b\",\"intent\":\"i\"}", "x/d.jsonl");
  ASSERT_EQ(set.rows.size(), 2u);
  EXPECT_EQ(set.rows[0].id, "d-1");
  EXPECT_EQ(set.rows[1].id, "7");
  EXPECT_EQ(set.rows[1].line, 4);
  EXPECT_EQ(place_of(set, set.rows[1]), "x/d.jsonl:4");
  EXPECT_EQ(set.files.at(0).num_rows, 2);
}

TEST(RowReader, EmptyColumnsOfATableAreAbsent) {
  const Row row = only_row(R"({"text":"a","intent":"i","lang":"","domain":"","slice":null,"oos":null,"id":null})");
  EXPECT_EQ(row.lang, "");
  EXPECT_EQ(row.id, "d-1");
}

class TemporaryFiles : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& text) {
    std::filesystem::create_directories(directory_);
    std::ofstream(directory_ / name, std::ios::binary) << text;
    return directory_ / name;
  }
  void TearDown() override { slmi::remove_tree(directory_); }
  std::filesystem::path directory_ =
      std::filesystem::path(::testing::TempDir()) /
      (std::string("slmi_rows_") + ::testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(TemporaryFiles, SeveralFilesKeepTheirPlacesAndHashes) {
  const std::string a = "{\"text\":\"a\",\"intent\":\"i\"}\n", b = "{\"text\":\"b\",\"intent\":\"i\"}\n";
  const std::vector<std::filesystem::path> paths{write("a.jsonl", a), write("b.jsonl", b)};
  const RowSet set = read_rows(paths);
  ASSERT_EQ(set.rows.size(), 2u);
  EXPECT_EQ(set.rows[1].id, "b-1");
  EXPECT_EQ(set.rows[1].file, 1);
  EXPECT_EQ(set.files[0].sha256, sha256_hex(a));
  EXPECT_EQ(data_hash(set), sha256_hex(sha256_hex(a) + sha256_hex(b)));
  EXPECT_EQ(data_hash(read_rows(paths[0])), sha256_hex(a));
}

TEST_F(TemporaryFiles, AMissingFileIsOneOfTheProblems) {
  const std::vector<std::filesystem::path> paths{directory_ / "absent.jsonl", write("b.jsonl", "{}\n")};
  try {
    read_rows(paths);
    FAIL() << "expected an error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Input);
    EXPECT_NE(std::string(e.what()).find("absent.jsonl"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("b.jsonl:1:1: neither 'text'"), std::string::npos) << e.what();
  }
}

TEST(RowReader, ManyRowsInOrderOnAnyNumberOfThreads) {
  std::string text;
  for (int i = 0; i < 20000; ++i) {
    text +=
        fmt::format(R"({{"id":"r{}","text":"add {} of those","intent":"add","slots":{{"n":"{}"}}}})", i, i, i) + "\n";
  }
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    const RowSet set = parse_rows(text, "big.jsonl");
    ASSERT_EQ(set.rows.size(), 20000u);
    for (size_t i = 0; i < set.rows.size(); ++i) {
      ASSERT_EQ(set.rows[i].id, fmt::format("r{}", i));
      ASSERT_EQ(set.rows[i].line, static_cast<int64_t>(i) + 1);
    }
  }
  set_num_threads(available_processors());
}

}  // namespace
}  // namespace slmi::data
