// Tables of text: aligned for a terminal, Markdown, CSV, HTML.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace slmi::report {

enum class Align { Left, Right };

struct Column {
  std::string title;
  Align align = Align::Left;
};

/// Rows of cells under titled columns, with headings between the rows where wanted.
class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  /// Missing cells are empty; more cells than columns are an Error{Internal}.
  void add_row(std::vector<std::string> cells);
  /// A heading above the rows that follow.
  void add_heading(std::string title);
  bool empty() const { return rows_.empty(); }

  /// Aligned text with a rule under the titles. Where it would be wider than `width` (> 0), the widest columns are
  /// wrapped, at spaces while possible, down to 8 characters each. Control characters are shown as spaces.
  std::string text(int width) const;
  /// GitHub Markdown; pipes and line breaks in cells are escaped.
  std::string markdown() const;
  /// <table> with class names "num" (right-aligned) and "heading"; everything escaped.
  std::string html() const;
  /// RFC 4180, with the titles as the first line.
  std::string csv() const;

 private:
  struct Row {
    bool heading = false;
    std::vector<std::string> cells;
  };
  std::vector<Column> columns_;
  std::vector<Row> rows_;
};

/// Columns that a UTF-8 text takes on a terminal: wide characters count 2, combining marks 0.
int display_width(std::string_view text);

/// Text for HTML content and attributes: & < > " ' escaped; control characters (but not line breaks and tabs) and
/// bytes that are not UTF-8 become U+FFFD.
std::string escape_html(std::string_view text);

/// Text for a line of Markdown: nothing in it acts as markup, breaks become spaces, the rest as in escape_html.
std::string escape_markdown(std::string_view text);

/// One CSV cell, quoted where needed.
std::string csv_cell(std::string_view text);

}  // namespace slmi::report
