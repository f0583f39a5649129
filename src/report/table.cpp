// Tables of text and the escapes of each output; see the header.
#include "slmi/report/table.h"

#include <algorithm>
#include <numeric>

#include "slmi/base/error.h"
#include "slmi/base/json.h"

namespace slmi::report {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
constexpr std::string_view kGap = "  ";                    // between columns of a terminal table
constexpr int kNarrowest = 8;                              // a column is not wrapped below this

/// Calls use(bytes, code point) for each character; bytes that are not UTF-8 come as U+FFFD, one at a time.
template <class Use>
void for_each_character(std::string_view text, Use use) {
  for (size_t i = 0; i < text.size();) {
    const auto first = static_cast<uint8_t>(text[i]);
    const size_t n = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    const auto bytes = text.substr(i, n);
    if (bytes.size() < n || !is_valid_utf8(bytes)) {
      use(kReplacement, 0xFFFDu);
      ++i;
      continue;
    }
    uint32_t point = n == 1 ? first : first & (0xFFu >> (n + 1));
    for (size_t k = 1; k < n; ++k) point = (point << 6) | (static_cast<uint8_t>(bytes[k]) & 0x3Fu);
    use(bytes, point);
    i += n;
  }
}

bool is_control(uint32_t point) {
  return point < 0x20 || (point >= 0x7F && point < 0xA0);
}

/// Whether a character changes the direction of what follows it: such text could show another text than it is.
bool is_direction_mark(uint32_t point) {
  return (point >= 0x202A && point <= 0x202E) || (point >= 0x2066 && point <= 0x2069);
}

/// Columns of one character: the ranges that terminals agree on (Unicode East Asian Width W and F, and marks).
int character_width(uint32_t point) {
  const auto in = [&](uint32_t low, uint32_t high) { return point >= low && point <= high; };
  if (in(0x300, 0x36F) || in(0x200B, 0x200F) || in(0x20D0, 0x20FF) || in(0xFE00, 0xFE0F) || in(0xFE20, 0xFE2F)) {
    return 0;
  }
  const bool wide = in(0x1100, 0x115F) || in(0x2E80, 0x303E) || in(0x3041, 0xA4CF) || in(0xAC00, 0xD7A3) ||
                    in(0xF900, 0xFAFF) || in(0xFE30, 0xFE6F) || in(0xFF00, 0xFF60) || in(0xFFE0, 0xFFE6) ||
                    in(0x1F300, 0x1F64F) || in(0x1F680, 0x1F6FF) || in(0x1F900, 0x1F9FF) || in(0x20000, 0x3FFFD);
  return wide ? 2 : 1;
}

/// Text that cannot move a terminal's cursor or colour it.
std::string for_terminal(std::string_view text) {
  std::string out;
  for_each_character(text, [&](std::string_view bytes, uint32_t point) {
    if (is_control(point)) {
      out += ' ';
    } else {
      out += is_direction_mark(point) ? kReplacement : bytes;
    }
  });
  return out;
}

/// Lines of at most `width` columns, broken at spaces where there are any.
std::vector<std::string> wrapped(const std::string& text, int width) {
  std::vector<std::string> lines;
  std::string line, word;
  int line_width = 0, word_width = 0;
  const auto end_word = [&] {
    if (line_width > 0 && line_width + 1 + word_width > width) {
      lines.push_back(std::move(line));
      line.clear();
      line_width = 0;
    }
    if (line_width > 0) {
      line += ' ';
      ++line_width;
    }
    line += word;
    line_width += word_width;
    word.clear();
    word_width = 0;
  };
  for_each_character(text, [&](std::string_view bytes, uint32_t point) {
    if (point == ' ') {
      if (!word.empty()) end_word();
      return;
    }
    const int w = character_width(point);
    if (word_width + w > width) end_word();  // a word longer than the line
    word += bytes;
    word_width += w;
  });
  if (!word.empty()) end_word();
  if (!line.empty() || lines.empty()) lines.push_back(std::move(line));
  return lines;
}

void strip_right(std::string& line) {
  while (line.ends_with(' ')) line.pop_back();
}

/// Narrows the widest columns until the sum fits: first only where lines break at spaces, then down to kNarrowest.
void narrow(std::vector<int>& widths, const std::vector<int>& longest_words, int available) {
  for (const bool break_words : {false, true}) {
    while (std::accumulate(widths.begin(), widths.end(), 0) > available) {
      size_t widest = widths.size();
      for (size_t i = 0; i < widths.size(); ++i) {
        const int least = break_words ? kNarrowest : std::max(kNarrowest, longest_words[i]);
        if (widths[i] > least && (widest == widths.size() || widths[i] > widths[widest])) widest = i;
      }
      if (widest == widths.size()) break;
      --widths[widest];
    }
  }
}

int longest_word(std::string_view text) {
  int out = 0;
  for (size_t begin = 0; begin <= text.size();) {
    const auto end = std::min(text.find(' ', begin), text.size());
    out = std::max(out, display_width(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return out;
}

}  // namespace

void Table::add_row(std::vector<std::string> cells) {
  require(cells.size() <= columns_.size(), ErrorKind::Internal, "table: {} cells, {} columns", cells.size(),
          columns_.size());
  cells.resize(columns_.size());
  rows_.push_back({false, std::move(cells)});
}

void Table::add_heading(std::string title) {
  rows_.push_back({true, {std::move(title)}});
}

std::string Table::text(int width) const {
  std::vector<int> widths, words;
  for (const auto& column : columns_) {
    widths.push_back(display_width(column.title));
    words.push_back(longest_word(column.title));
  }
  for (const auto& row : rows_) {
    for (size_t i = 0; !row.heading && i < row.cells.size(); ++i) {
      widths[i] = std::max(widths[i], display_width(row.cells[i]));
      words[i] = std::max(words[i], longest_word(row.cells[i]));
    }
  }
  narrow(widths, words, width - static_cast<int>(kGap.size() * (columns_.size() - 1)));
  std::string out;
  const auto put = [&](const std::vector<std::string>& cells) {
    std::vector<std::vector<std::string>> parts;
    size_t height = 0;
    for (size_t i = 0; i < cells.size(); ++i) {
      parts.push_back(wrapped(for_terminal(cells[i]), std::max(widths[i], 1)));
      height = std::max(height, parts.back().size());
    }
    for (size_t k = 0; k < height; ++k) {
      std::string line;
      for (size_t i = 0; i < cells.size(); ++i) {
        const std::string part = k < parts[i].size() ? parts[i][k] : "";
        const std::string pad(static_cast<size_t>(std::max(0, widths[i] - display_width(part))), ' ');
        if (i > 0) line += kGap;
        line += columns_[i].align == Align::Right ? pad + part : part + pad;
      }
      strip_right(line);
      out += line + "\n";
    }
  };
  std::vector<std::string> titles, rule;
  for (size_t i = 0; i < columns_.size(); ++i) {
    titles.push_back(columns_[i].title);
    rule.push_back(std::string(static_cast<size_t>(widths[i]), '-'));
  }
  put(titles);
  put(rule);
  for (const auto& row : rows_) {
    if (row.heading) {
      out += fmt::format("{}{}\n", &row == &rows_.front() ? "" : "\n", for_terminal(row.cells[0]));
    } else {
      put(row.cells);
    }
  }
  return out;
}

std::string Table::markdown() const {
  std::string out = "|", rule = "|";
  for (const auto& column : columns_) {
    out += fmt::format(" {} |", escape_markdown(column.title));
    rule += column.align == Align::Right ? "--:|" : "---|";
  }
  out += "\n" + rule + "\n";
  for (const auto& row : rows_) {
    out += "|";
    if (row.heading) {
      out += fmt::format(" **{}** |", escape_markdown(row.cells[0]));
      for (size_t i = 1; i < columns_.size(); ++i) out += " |";
    } else {
      for (const auto& cell : row.cells) out += fmt::format(" {} |", escape_markdown(cell));
    }
    out += "\n";
  }
  return out;
}

std::string Table::html() const {
  const auto attribute = [&](size_t i) { return columns_[i].align == Align::Right ? " class=\"num\"" : ""; };
  std::string out = "<table><thead><tr>";
  for (size_t i = 0; i < columns_.size(); ++i) {
    out += fmt::format("<th{}>{}</th>", attribute(i), escape_html(columns_[i].title));
  }
  out += "</tr></thead><tbody>\n";
  for (const auto& row : rows_) {
    if (row.heading) {
      out += fmt::format("<tr class=\"heading\"><th colspan=\"{}\">{}</th></tr>\n", columns_.size(),
                         escape_html(row.cells[0]));
      continue;
    }
    out += "<tr>";
    for (size_t i = 0; i < row.cells.size(); ++i) {
      out += fmt::format("<td{}>{}</td>", attribute(i), escape_html(row.cells[i]));
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table>\n";
}

std::string Table::csv() const {
  std::string out;
  const auto put = [&](const std::vector<std::string>& cells) {
    for (size_t i = 0; i < cells.size(); ++i) out.append(i > 0 ? "," : "").append(csv_cell(cells[i]));
    out += "\r\n";
  };
  std::vector<std::string> titles;
  for (const auto& column : columns_) titles.push_back(column.title);
  put(titles);
  for (const auto& row : rows_) {
    if (!row.heading) put(row.cells);
  }
  return out;
}

int display_width(std::string_view text) {
  int out = 0;
  for_each_character(text, [&](std::string_view, uint32_t point) {
    out += is_control(point) || is_direction_mark(point) ? 1 : character_width(point);
  });
  return out;
}

std::string escape_html(std::string_view text) {
  std::string out;
  for_each_character(text, [&](std::string_view bytes, uint32_t point) {
    switch (point) {
      case '&':
        out += "&amp;";
        return;
      case '<':
        out += "&lt;";
        return;
      case '>':
        out += "&gt;";
        return;
      case '"':
        out += "&quot;";
        return;
      case '\'':
        out += "&#39;";
        return;
      default:
        break;
    }
    const bool odd = is_direction_mark(point) || (is_control(point) && point != '\n' && point != '\t');
    out += odd ? kReplacement : bytes;
  });
  return out;
}

std::string escape_markdown(std::string_view text) {
  constexpr std::string_view kSpecial = "|<*`_\\[#";
  std::string out;
  for_each_character(text, [&](std::string_view bytes, uint32_t point) {
    if (point == '\n' || point == '\r' || point == '\t') {
      out += ' ';
    } else if (is_control(point) || is_direction_mark(point)) {
      out += kReplacement;
    } else {
      if (point < 0x80 && kSpecial.find(static_cast<char>(point)) != std::string_view::npos) out += '\\';
      out += bytes;
    }
  });
  return out;
}

std::string csv_cell(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

}  // namespace slmi::report
