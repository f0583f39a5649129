// Splits files into lines, parses the lines in parallel and reports all problems together; see the header.
#include "slmi/data/row_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "json_place.h"
#include "row_parser.h"
#include "slmi/base/error.h"
#include "slmi/base/mapped_file.h"
#include "slmi/base/parallel.h"
#include "slmi/base/sha256.h"

namespace slmi::data {
namespace {

/// All problems found so far; the first ones in words, the others counted.
class ProblemList {
 public:
  void add(std::string message) {
    if (++count_ <= kMaxShownProblems) shown_.push_back(std::move(message));
  }
  void throw_if_any() const {
    if (count_ == 0) return;
    std::string all;
    for (const auto& line : shown_) all += (all.empty() ? "" : "\n") + line;
    if (count_ > kMaxShownProblems) all += fmt::format("\n... and {} more", count_ - kMaxShownProblems);
    if (count_ > 1) all += fmt::format("\n{} problems; nothing was read", count_);
    throw Error(ErrorKind::Input, all);
  }

 private:
  int64_t count_ = 0;
  std::vector<std::string> shown_;
};

struct Line {
  int64_t number = 0;  // from 1
  std::string_view text;
};

/// The lines that hold more than white space, without their line feed; the CR of a CRLF is white space to JSON.
std::vector<Line> split_lines(std::string_view text) {
  std::vector<Line> lines;
  int64_t number = 0;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) lines.push_back({number, line});
  }
  return lines;
}

/// What a text editor may have put before the first row; "" if nothing.
std::string_view encoding_problem(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) return "starts with a byte-order mark; save it as UTF-8 without one";
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) return "is UTF-16; save it as UTF-8";
  return "";
}

class SetReader {
 public:
  explicit SetReader(const ReadOptions& options) : options_(options) {}

  void add_file(std::string_view text, const std::string& source) {
    const int32_t file = static_cast<int32_t>(set_.files.size());
    set_.files.push_back({source, sha256_hex(text), 0});
    if (const auto problem = encoding_problem(text); !problem.empty()) {
      return problems_.add(fmt::format("{}:1:1: {}", source, problem));
    }
    const auto lines = split_lines(text);
    if (lines.empty()) return problems_.add(fmt::format("{}:1:1: holds no rows", source));

    std::vector<Row> rows(lines.size());
    std::vector<std::vector<RowProblem>> problems(lines.size());
    const std::string stem = std::filesystem::path(source).stem().string();
    parallel_for(static_cast<int64_t>(lines.size()), [&](int64_t begin, int64_t end, int) {
      for (size_t i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
        rows[i].id = fmt::format("{}-{}", stem, lines[i].number);
        rows[i].file = file;
        rows[i].line = lines[i].number;
        parse_row(lines[i].text, options_, rows[i], problems[i]);
      }
    });
    for (size_t i = 0; i < lines.size(); ++i) {
      for (const auto& p : problems[i]) {
        problems_.add(fmt::format("{}:{}:{}: {}", source, lines[i].number, p.column, p.what));
      }
      if (problems[i].empty()) keep(std::move(rows[i]), lines[i].text);
    }
    set_.files.back().num_rows = static_cast<int64_t>(lines.size());
  }

  void add_problem(const Error& error) { problems_.add(error.what()); }

  RowSet finish() && {
    problems_.throw_if_any();
    return std::move(set_);
  }

 private:
  void keep(Row row, std::string_view line) {
    const auto [it, is_new] = place_of_id_.try_emplace(row.id, set_.rows.size());
    if (!is_new) {
      const JsonStep id_key = std::string("id");
      problems_.add(fmt::format("{}:{}: id '{}' stands already at {}", place_of(set_, row),
                                find_value(line, std::span(&id_key, 1)) + 1, row.id,
                                place_of(set_, set_.rows[it->second])));
    }
    set_.rows.push_back(std::move(row));
  }

  const ReadOptions& options_;
  RowSet set_;
  ProblemList problems_;
  std::unordered_map<std::string, size_t> place_of_id_;
};

}  // namespace

RowSet read_rows(std::span<const std::filesystem::path> paths, const ReadOptions& options) {
  require(!paths.empty(), ErrorKind::Usage, "no data file was named");
  SetReader reader(options);
  for (const auto& path : paths) {
    try {
      const MappedFile file = MappedFile::open(path);
      reader.add_file(file.text(), path.string());
    } catch (const Error& e) {
      if (e.kind() != ErrorKind::Input) throw;
      reader.add_problem(e);
    }
  }
  return std::move(reader).finish();
}

RowSet read_rows(const std::filesystem::path& path, const ReadOptions& options) {
  return read_rows(std::span(&path, 1), options);
}

RowSet parse_rows(std::string_view text, const std::string& source, const ReadOptions& options) {
  SetReader reader(options);
  reader.add_file(text, source);
  return std::move(reader).finish();
}

}  // namespace slmi::data
