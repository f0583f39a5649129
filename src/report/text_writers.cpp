// Markdown, CSV and terminal forms of a report, and the files of a report directory.
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "comparison.h"
#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/report/writers.h"

namespace slmi::report {
namespace {

constexpr size_t kMarkdownExamples = 20;  // of errors and of flipped rows; the HTML shows more, the JSON all
constexpr size_t kMarkdownConfusions = 10;

void section(std::string& out, const std::string& title, const Table& table) {
  if (!table.empty()) out += title + "\n\n" + table.markdown() + "\n";
}

void model_section(std::string& out, const ModelReport& model) {
  std::string body;
  section(body, "### Fields", fields_table(model));
  section(body, "### Intents", intents_table(model));
  section(body, "### Slices", parts_table(model.slices, "slice"));
  section(body, "### Languages", parts_table(model.languages, "language"));
  if (model.confusion)
    section(body, "### Most frequent confusions", confused_table(*model.confusion, kMarkdownConfusions));
  section(body, "### Worst errors", examples_table(model.errors, kMarkdownExamples));
  if (model.against) {
    section(body, "### Rows that flipped against " + escape_markdown(model.against->reference),
            flipped_table(*model.against, kMarkdownExamples));
  }
  if (!body.empty()) out += fmt::format("## {}\n\n{}", escape_markdown(model.name), body);
}

/// Numbers of a JSON object as dotted keys; lists and long parts, which are no columns, are left out.
void flatten(const Json& json, const std::string& prefix, std::vector<std::pair<std::string, std::string>>& out) {
  for (const auto& [name, value] : json.items()) {
    const auto key = prefix.empty() ? name : prefix + "." + name;
    const bool absent_part = value.is_null() && key == "against";  // no column of its own, but those of its numbers
    if (value.is_array() || key == "confusion" || absent_part) continue;
    if (value.is_object()) {
      flatten(value, key, out);
    } else {
      out.emplace_back(key, value.is_null() ? "" : value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
}

}  // namespace

std::string to_markdown(const EvalReport& report) {
  auto out = fmt::format("# {}\n\n", escape_markdown(report.title));
  for (const auto& note : report.notes) out += fmt::format("> {}\n\n", escape_markdown(note));
  section(out, "## Comparison", comparison_table(report, EmptyRows::Keep));
  section(out, "## Against the reference", against_table(report));
  for (const auto& model : report.models) model_section(out, model);
  section(out, "## What was measured", models_table(report));
  section(out, "## Where and how", environment_table(report));
  section(out, "## Data", data_table(report));
  return out;
}

std::string to_csv(const EvalReport& report) {
  std::vector<std::string> columns;
  std::vector<std::map<std::string, std::string>> lines;
  for (const auto& model : report.models) {
    std::vector<std::pair<std::string, std::string>> cells;
    flatten(to_json(model), "", cells);
    lines.emplace_back();
    for (auto& [key, value] : cells) {
      if (std::find(columns.begin(), columns.end(), key) == columns.end()) columns.push_back(key);
      lines.back()[key] = value;
    }
  }
  std::vector<Column> titles;
  for (const auto& column : columns) titles.push_back({column});
  Table table(titles);
  for (auto& line : lines) {
    std::vector<std::string> cells;
    for (const auto& column : columns) cells.push_back(line[column]);
    table.add_row(std::move(cells));
  }
  return table.csv();
}

std::string to_terminal(const EvalReport& report, int width) {
  auto out = comparison_table(report, EmptyRows::Drop).text(width);
  if (const auto against = against_table(report); !against.empty()) out += fmt::format("\n{}", against.text(width));
  for (const auto& note : report.notes) out += fmt::format("\n{}\n", note);
  return out;
}

int terminal_width() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  const char* columns = std::getenv("COLUMNS");
  const int value = columns == nullptr ? 0 : std::atoi(columns);
  return value > 0 ? value : 100;
}

void write_report(const EvalReport& report, const std::filesystem::path& directory) {
  slmi::create_directories(directory);
  write_file_atomically(directory / "report.json",
                        to_json(report).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  write_file_atomically(directory / "report.md", to_markdown(report));
  write_file_atomically(directory / "report.csv", to_csv(report));
  write_file_atomically(directory / "report.html", to_html(report));
}

}  // namespace slmi::report
