// Tables: alignment, wrapping, wide characters, and the escapes of Markdown, HTML and CSV.
#include "slmi/report/table.h"

#include <gtest/gtest.h>

#include <sstream>

#include "slmi/base/error.h"

namespace slmi::report {
namespace {

TEST(Table, AlignsByDisplayWidth) {
  Table table({{"name"}, {"n", Align::Right}});
  table.add_row({"größer", "1"});
  table.add_row({"北京", "1,000"});
  table.add_row({"e\xCC\x81"});
  EXPECT_EQ(table.text(80),
            "name        n\n"
            "------  -----\n"
            "größer      1\n"
            "北京    1,000\n"
            "e\xCC\x81\n");
}

TEST(Table, WrapsTheWidestColumn) {
  Table table({{"id"}, {"text"}, {"n", Align::Right}});
  table.add_row({"1", "one two three four five six", "7"});
  table.add_row({"2", std::string(30, 'x'), "8"});
  EXPECT_EQ(table.text(22),
            "id  text             n\n"
            "--  ---------------  -\n"
            "1   one two three    7\n"
            "    four five six\n"
            "2   xxxxxxxxxxxxxxx  8\n"
            "    xxxxxxxxxxxxxxx\n")
      << table.text(22);
}

TEST(Table, NeverWiderThanAskedWhereColumnsAllow) {
  Table table({{"a"}, {"b", Align::Right}, {"c"}});
  table.add_row({"some words that are many", "unbreakableunbreakableunbreakable", "x"});
  for (const int width : {90, 60, 40, 30, 25}) {
    std::istringstream lines(table.text(width));
    for (std::string line; std::getline(lines, line);) EXPECT_LE(display_width(line), width) << line;
  }
}

TEST(Table, ControlCharactersCannotReachTheTerminal) {
  Table table({{"a"}});
  table.add_row({"x\x1b[31my\nz\xE2\x80\xAEq"});
  const auto text = table.text(80);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find("\xE2\x80\xAE"), std::string::npos) << "text direction override";
  EXPECT_NE(text.find("x [31my z"), std::string::npos) << text;
}

TEST(Table, MarkdownEscapesMarkup) {
  Table table({{"a_b"}, {"n", Align::Right}});
  table.add_heading("part");
  table.add_row({"x|y\n`z` <b> [l](u)", "1"});
  EXPECT_EQ(table.markdown(), "| a\\_b | n |\n|---|--:|\n| **part** | |\n| x\\|y \\`z\\` \\<b> \\[l](u) | 1 |\n");
}

TEST(Table, HtmlEscapesMarkup) {
  Table table({{"a<"}, {"n", Align::Right}});
  table.add_heading("p&q");
  table.add_row({"<b>", "\"1'"});
  EXPECT_EQ(table.html(),
            "<table><thead><tr><th>a&lt;</th><th class=\"num\">n</th></tr></thead><tbody>\n"
            "<tr class=\"heading\"><th colspan=\"2\">p&amp;q</th></tr>\n"
            "<tr><td>&lt;b&gt;</td><td class=\"num\">&quot;1&#39;</td></tr>\n"
            "</tbody></table>\n");
}

TEST(Table, CsvQuotes) {
  Table table({{"a"}, {"b,c"}});
  table.add_heading("not a row");
  table.add_row({"say \"hi\"", "two\nlines"});
  EXPECT_EQ(table.csv(), "a,\"b,c\"\r\n\"say \"\"hi\"\"\",\"two\nlines\"\r\n");
}

TEST(Table, RefusesMoreCellsThanColumns) {
  Table table({{"a"}});
  EXPECT_THROW(table.add_row({"1", "2"}), Error);
  EXPECT_TRUE(table.empty());
}

TEST(Escapes, BadBytesBecomeReplacementCharacters) {
  EXPECT_EQ(escape_html("a\xFF\xC3(\x01\x7F"), "a\xEF\xBF\xBD\xEF\xBF\xBD(\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(escape_html("\xF0\x9F\x8C\xA7"), "\xF0\x9F\x8C\xA7");
  EXPECT_EQ(escape_html("\xF0\x9F\x8C"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD") << "cut short";
  EXPECT_EQ(escape_html("\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD") << "a surrogate";
  EXPECT_EQ(escape_html(std::string_view("\0", 1)), "\xEF\xBF\xBD");
}

TEST(Escapes, DisplayWidth) {
  EXPECT_EQ(display_width(""), 0);
  EXPECT_EQ(display_width("abc"), 3);
  EXPECT_EQ(display_width("–é"), 2);
  EXPECT_EQ(display_width("東京🌧"), 6);
  EXPECT_EQ(display_width("\xFF"), 1);
}

}  // namespace
}  // namespace slmi::report
