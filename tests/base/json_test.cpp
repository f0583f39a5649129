// JSON: positions, limits, comments and the spaced form.
#include "slmi/base/json.h"

#include <gtest/gtest.h>

#include "expect_error.h"
#include "temporary_directory.h"

namespace slmi {
namespace {

TEST(Json, SyntaxErrorsNameSourceLineAndColumn) {
  // The comma after `1` on line 3 is followed by a closing brace: column 1 of line 4.
  SLMI_EXPECT_ERROR(Input, "run.json:4:1: not valid JSON", parse_json("{\n\"a\": 2,\n\"b\": 1,\n}", "run.json"));
  SLMI_EXPECT_ERROR(Input, "x:1:6:", parse_json("{\"a\" 1}", "x"));
  SLMI_EXPECT_ERROR(Input, "x:2:3:", parse_json("[1,\n2 3]", "x"));
}

TEST(Json, EmptyAndCutShortAndTrailingTextAreErrors) {
  SLMI_EXPECT_ERROR(Input, "x:1:1: not valid JSON", parse_json("", "x"));
  SLMI_EXPECT_ERROR(Input, "not valid JSON", parse_json("{\"a\": [1, 2", "x"));
  SLMI_EXPECT_ERROR(Input, "not valid JSON", parse_json("\"abc", "x"));
  SLMI_EXPECT_ERROR(Input, "x:1:4:", parse_json("{} {}", "x"));
}

TEST(Json, DuplicateKeysAreErrorsAtEveryDepthButNotAcrossObjects) {
  EXPECT_EQ(
      parse_json(R"({"a": 1, "b": {"c": 2, "c": 3}, "a": 4})", "x", {.repeated_keys = RepeatedKeys::LastCounts}).dump(),
      R"({"a":4,"b":{"c":3}})");
  SLMI_EXPECT_ERROR(Input, "key \"a\" stands twice", parse_json(R"({"a": 1, "b": 2, "a": 3})", "x"));
  SLMI_EXPECT_ERROR(Input, "key \"a\" stands twice", parse_json(R"([{"b": {"a": 1, "a": 3}}])", "x"));
  SLMI_EXPECT_ERROR(Input, "key \"a\" stands twice", parse_json("{\"a\": 1, \"\\u0061\": 3}", "x"));
  SLMI_EXPECT_ERROR(Input, "key \"a\" stands twice", parse_json(R"({"a": 1, "c": {"x": [{}]}, "a": 2})", "x"));
  EXPECT_NO_THROW(parse_json(R"({"a": {"b": 1}, "b": 2})", "x"));  // the inner object's keys end with it
  EXPECT_EQ(parse_json(R"([{"a": 1}, {"a": {"a": 2}}])", "x")[1]["a"]["a"], 2);
}

TEST(Json, DepthIsLimited) {
  const auto nested = [](int n) { return std::string(n, '[') + std::string(n, ']'); };
  EXPECT_NO_THROW(parse_json(nested(64), "x"));
  SLMI_EXPECT_ERROR(Input, "nested deeper than 64 levels", parse_json(nested(65), "x"));
  SLMI_EXPECT_ERROR(Input, "nested deeper than 64 levels", parse_json(std::string(1'000'000, '['), "x"));
  EXPECT_NO_THROW(parse_json(nested(3), "x", {.max_depth = 3}));
  SLMI_EXPECT_ERROR(Input, "nested deeper than 3 levels", parse_json(nested(4), "x", {.max_depth = 3}));
}

TEST(Json, ByteOrderMarkIsNamed) {
  SLMI_EXPECT_ERROR(Input, "x:1:1: starts with a byte-order mark", parse_json("\xEF\xBB\xBF{}", "x"));
}

TEST(Json, CommentsOnlyWhereAccepted) {
  const std::string text = "// why\n{\"a\": /* inline */ 1}\n// end\n";
  EXPECT_EQ(parse_json(text, "x", {.comments = JsonComments::Accept})["a"], 1);
  SLMI_EXPECT_ERROR(Input, "x:1:1:", parse_json(text, "x"));
  EXPECT_EQ(parse_json(R"({"a": "// text"})", "x", {.comments = JsonComments::Accept})["a"], "// text");
}

TEST(Json, InvalidUtf8IsAnError) {
  SLMI_EXPECT_ERROR(Input, "x:1:3:", parse_json("[\"\xC0\xAF\"]", "x"));
  SLMI_EXPECT_ERROR(Input, "not valid JSON", parse_json("[\"\\ud800\"]", "x"));
}

TEST(Json, KeysKeepTheirOrder) {
  EXPECT_EQ(dump_spaced(parse_json(R"({"z":1,"a":2,"m":3})", "x")), R"({"z": 1, "a": 2, "m": 3})");
}

TEST(Json, ReadFileNamesTheFile) {
  TemporaryDirectory directory;
  const std::string path = (directory / "c.json").string();
  write_all(path, "{\"a\": 1}\n");
  EXPECT_EQ(read_json_file(path)["a"], 1);
  write_all(path, "{\n\"a\" 1}\n");
  SLMI_EXPECT_ERROR(Input, path + ":2:5:", read_json_file(path));
  SLMI_EXPECT_ERROR(Input, "absent.json: cannot open", read_json_file((directory / "absent.json").string()));
}

TEST(Json, PositionOfCountsLinesAndBytes) {
  const auto at = [](std::string_view text, uint64_t byte) {
    const TextPosition p = position_of(text, byte);
    return std::pair(p.line, p.column);
  };
  EXPECT_EQ(at("ab\ncd", 0), std::pair(1ul, 1ul));
  EXPECT_EQ(at("ab\ncd", 2), std::pair(1ul, 3ul));  // the line feed itself
  EXPECT_EQ(at("ab\ncd", 3), std::pair(2ul, 1ul));
  EXPECT_EQ(at("ab\ncd", 99), std::pair(2ul, 3ul));  // clamped to the end
  EXPECT_EQ(at("\xC3\xA9x", 2), std::pair(1ul, 3ul));
  EXPECT_EQ(at("", 0), std::pair(1ul, 1ul));
}

TEST(Json, DumpSpacedIsPythonsForm) {
  // Python: json.dumps(value, ensure_ascii=False)
  const Json value = Json::parse(R"({"s":"a\"b\\c\n\t\u0001é€😀","n":[1,-2,0.5,1e30],"t":true,"x":null,"e":{},"l":[]})");
  EXPECT_EQ(dump_spaced(value),
            "{\"s\": \"a\\\"b\\\\c\\n\\t\\u0001é€😀\", \"n\": [1, -2, 0.5, 1e+30], \"t\": true, \"x\": null, \"e\": {}, "
            "\"l\": []}");
  EXPECT_EQ(dump_spaced(Json("text")), "\"text\"");
  EXPECT_EQ(dump_spaced(Json::object({{"a \"key\"", 1}})), R"({"a \"key\"": 1})");
  SLMI_EXPECT_ERROR(Input, "cannot write a string as JSON", dump_spaced(Json::array({"\xFF"})));
}

TEST(Json, DumpSpacedParsesBack) {
  const Json value = Json::parse(R"({"a":[{"b":[[],{}]},"x"],"c":-0.25,"d":18446744073709551615})");
  EXPECT_EQ(parse_json(dump_spaced(value), "x"), value);
}

}  // namespace
}  // namespace slmi
