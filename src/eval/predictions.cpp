// Answers as JSONL; see the header.
#include "slmi/eval/predictions.h"

#include <algorithm>
#include <unordered_map>

#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/base/mapped_file.h"

namespace slmi::eval {
namespace {

struct Line {
  std::string model;
  RowAnswer answer;
  std::string place;
};

Line parse_line(std::string_view text, const std::string& place) {
  const Json json = parse_json(text, place);
  require(json.is_object(), ErrorKind::Input, "{}: expected an object with id and answer", place);
  Line line;
  line.place = place;
  require(json.contains("id"), ErrorKind::Input, "{}: no 'id'", place);
  const Json& id = json["id"];
  require(id.is_string() || id.is_number_integer(), ErrorKind::Input, "{}: 'id' should be text or an integer", place);
  line.answer.id = id.is_string() ? id.get<std::string>() : id.dump();
  require(json.contains("answer"), ErrorKind::Input, "{}: no 'answer'", place);
  const Json& answer = json["answer"];
  require(answer.is_string() || answer.is_structured(), ErrorKind::Input,
          "{}: 'answer' should be text, an object or an array", place);
  line.answer.answer = answer.is_string() ? answer.get<std::string>() : dump_spaced(answer);
  if (json.contains("log_probability") && json["log_probability"].is_number())
    line.answer.log_probability = json["log_probability"].get<double>();
  if (json.contains("complete") && json["complete"].is_boolean()) line.answer.complete = json["complete"].get<bool>();
  if (json.contains("model") && json["model"].is_string()) line.model = json["model"].get<std::string>();
  return line;
}

std::vector<Line> read_lines(const std::filesystem::path& file) {
  const MappedFile mapped = MappedFile::open(file);
  const std::string_view text = mapped.text();
  std::vector<Line> lines;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    lines.push_back(parse_line(line, fmt::format("{}:{}", file.string(), number)));
  }
  return lines;
}

}  // namespace

Predictions read_predictions(const std::filesystem::path& file, const std::string& name, const data::RowSet& set) {
  std::vector<Line> lines = read_lines(file);
  if (std::any_of(lines.begin(), lines.end(), [&](const Line& l) { return l.model == name; }))
    std::erase_if(lines, [&](const Line& l) { return l.model != name; });
  std::unordered_map<std::string_view, size_t> by_id;
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto [at, fresh] = by_id.emplace(lines[i].answer.id, i);
    require(fresh, ErrorKind::Input,
            "{}: id '{}' stands in {} already; of a file with several models, name one as --predictions MODEL={}",
            lines[i].place, lines[i].answer.id, lines[at->second].place, file.string());
  }
  Predictions out;
  for (const auto& row : set.rows) {
    const auto found = by_id.find(row.id);
    if (found != by_id.end()) out.answers.push_back(lines[found->second].answer);
  }
  require(!out.answers.empty(), ErrorKind::Input,
          "{}: none of its {} ids is a row of {}; the data set's rows are named like '{}'", file.string(), lines.size(),
          set.files.front().path, set.rows.front().id);
  out.unknown = static_cast<int64_t>(lines.size() - out.answers.size());
  return out;
}

void write_predictions(const std::filesystem::path& file, const data::RowSet& set, std::span<const Scored> systems) {
  AtomicFile out(file);
  for (const auto& system : systems) {
    for (size_t i = 0; i < system.answers.size(); ++i) {
      const RowAnswer& answer = system.answers[i];
      Json line = {{"id", answer.id},
                   {"model", system.model},
                   {"answer", answer.answer},
                   {"expected", set.rows[static_cast<size_t>(system.rows[i])].answer},
                   {"match", static_cast<bool>(system.match[i])}};
      if (answer.log_probability) line["log_probability"] = *answer.log_probability;
      if (!answer.complete) line["complete"] = false;
      out.write(line.dump() + "\n");
    }
  }
  out.commit();
}

}  // namespace slmi::eval
