// What every HTML report is made of: one page with its style inside, tables, plots. No scripts, nothing fetched.
#pragma once

#include <string>
#include <vector>

#include "slmi/report/report.h"
#include "slmi/report/table.h"

namespace slmi::report {

/// Everything up to the first section: head, style, title, date and machine, notes.
std::string page_begin(const std::string& title, const std::string& date, const Machine& machine,
                       const std::vector<std::string>& notes);
inline constexpr const char* kPageEnd = "</body></html>\n";

/// <tag>text</tag> with the text escaped.
std::string element(const char* tag, const std::string& text);

/// A titled table in a frame that scrolls sideways on narrow screens; nothing for an empty table.
void add_table(std::string& out, const std::string& title, const Table& table, const char* css_class = "");

/// An SVG as a figure; nothing for "".
void add_plot(std::string& out, const std::string& svg);

}  // namespace slmi::report
