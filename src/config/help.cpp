// Help texts: --help, the values a command prints at its start, and the Markdown table of the documentation.
#include "help.h"

#include <algorithm>

#include "slmi/base/suggest.h"
#include "slmi/config/config.h"
#include "text.h"

namespace slmi::config {
namespace {

constexpr size_t kWidth = 100;     // of a help line
constexpr size_t kLeftWidth = 30;  // of the column of names; longer names get a line of their own

std::string metavar_of(const Field& field) {
  if (!field.metavar.empty()) return field.metavar;
  if (!field.choices.empty()) {
    const auto all = join(field.choices, "|");
    return all.size() <= 24 ? all : "NAME";  // longer lists stand in the text
  }
  switch (field.kind) {
    case Kind::Integer:
      return "N";
    case Kind::Real:
      return "X";
    default:
      return "TEXT";
  }
}

std::string limits_text(const Field& field) {
  return field.choices.empty() ? field.limits.text() : "one of " + join(field.choices, ", ");
}

/// Words of `text` in lines that start at column `indent`; the first line is already there.
std::string wrapped(const std::string& text, size_t indent) {
  std::string out;
  size_t column = indent;
  size_t begin = 0;
  while (begin < text.size()) {
    auto end = text.find(' ', begin);
    if (end == std::string::npos) end = text.size();
    const auto word = text.substr(begin, end - begin);
    if (column > indent && column + 1 + word.size() > kWidth) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
    begin = end + 1;
  }
  return out;
}

std::string escaped_cell(std::string text) {
  for (size_t at = text.find('|'); at != std::string::npos; at = text.find('|', at + 2)) text.replace(at, 1, "\\|");
  return text;
}

/// The one flag (or key) of which `name` is the last part: rank -> lora-rank.
std::string by_last_part(const std::vector<std::string>& names, const std::string& name, char separator) {
  std::string found;
  for (const auto& candidate : names) {
    if (!candidate.ends_with(separator + name)) continue;
    if (!found.empty() && found != candidate) return "";
    found = candidate;
  }
  return found;
}

}  // namespace

std::string number_text(double value) {
  auto text = Json(value).dump();  // shortest digits that read back
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text;
}

std::string join(const std::vector<std::string>& items, std::string_view separator) {
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) out.append(i == 0 ? "" : separator).append(items[i]);
  return out;
}

std::string value_text(const Json& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return value == "" ? "-" : value.get<std::string>();
  if (value.is_number_float()) return number_text(value.get<double>());
  if (!value.is_array()) return value.dump();
  std::vector<std::string> items;
  for (const auto& item : value) items.push_back(value_text(item));
  return items.empty() ? "-" : join(items, ",");
}

std::string with_dashes(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

std::string with_underscores(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

std::string did_you_mean(const std::string& name) {
  return name.empty() ? "" : fmt::format("; did you mean {}?", name);
}

std::string flags_text(const Schema& schema, const std::vector<std::string>& keys) {
  std::vector<std::string> flags;
  for (const auto& key : keys) flags.push_back("--" + schema.find_key(key)->flag);
  return join(flags, " or ");
}

std::string default_text_of(const Field& field, const Json& value) {
  if (!field.default_text.empty()) return field.default_text;
  const auto text = value_text(value);
  return text == "-" ? "" : text;
}

std::string suggest_flag(const Schema& schema, const std::vector<std::string>& other_flags, const std::string& name) {
  const auto wanted = with_dashes(name);
  std::vector<std::string> names = other_flags;
  for (const auto& field : schema.fields) {
    names.push_back(field.flag);
    if (field.kind == Kind::Boolean) names.push_back("no-" + field.flag);
  }
  if (std::find(names.begin(), names.end(), wanted) != names.end()) return "--" + wanted;
  std::vector<std::string> synonyms;
  for (const auto& field : schema.fields) {
    for (const auto& synonym : field.synonyms) {
      if (with_dashes(synonym) == wanted) return "--" + field.flag;
      synonyms.push_back(with_dashes(synonym));
    }
  }
  if (const auto part = by_last_part(names, wanted, '-'); !part.empty()) return "--" + part;
  if (const auto near = nearest_name(wanted, names); !near.empty()) return "--" + near;
  const auto near = nearest_name(wanted, synonyms);
  return near.empty() ? "" : suggest_flag(schema, other_flags, near);
}

std::string suggest_key(const Schema& schema, const std::string& name) {
  // Keys of groups may have been typed flat: lora_rank, lora-rank.
  auto flat = with_underscores(name);
  std::replace(flat.begin(), flat.end(), '.', '_');
  std::vector<std::string> keys, flats;
  for (const auto& field : schema.fields) {
    keys.push_back(field.key);
    flats.push_back(field.key);
    std::replace(flats.back().begin(), flats.back().end(), '.', '_');
  }
  const auto key_at = [&](const std::string& f) {
    return keys[std::find(flats.begin(), flats.end(), f) - flats.begin()];
  };
  if (std::find(flats.begin(), flats.end(), flat) != flats.end()) return key_at(flat);
  const auto last = flat.substr(flat.rfind('.') + 1);
  for (const auto& field : schema.fields) {
    if (with_underscores(field.flag) == flat) return field.key;
    for (const auto& synonym : field.synonyms) {
      if (with_underscores(synonym) == last || with_underscores(synonym) == with_underscores(name)) return field.key;
    }
  }
  if (const auto part = by_last_part(keys, with_underscores(name), '.'); !part.empty()) return part;
  const auto near = nearest_name(flat, flats);
  if (!near.empty()) return key_at(near);
  // A group's own name: lroa -> lora.
  std::vector<std::string> groups;
  for (const auto& key : keys) {
    if (const auto dot = key.rfind('.'); dot != std::string::npos) groups.push_back(key.substr(0, dot));
  }
  return nearest_name(name, groups);
}

std::string values_table(const Schema& schema, const void* config) {
  size_t width = 0;
  for (const auto& field : schema.fields) width = std::max(width, field.key.size());
  std::string out;
  for (const auto& field : schema.fields) {
    out += fmt::format("  {:<{}}  {}\n", field.key, width, value_text(field.load(config)));
  }
  return out;
}

std::string markdown_table(const Schema& schema, const void* defaults) {
  std::string out = "| flag | key | default | limits | |\n|---|---|---|---|---|\n";
  for (const auto& field : schema.fields) {
    const auto value = default_text_of(field, field.load(defaults));
    const auto flag = field.kind == Kind::Boolean ? fmt::format("--{0}, --no-{0}", field.flag) : "--" + field.flag;
    out += fmt::format("| `{}` | `{}` | {} | {} | {} |\n", flag, field.key,
                       field.required ? "required" : escaped_cell(value), escaped_cell(limits_text(field)),
                       escaped_cell(field.help));
  }
  return out;
}

void HelpFormatter::add(const CLI::Option* option, const Field& field, const std::string& default_text) {
  Entry entry;
  entry.group = field.group;
  entry.left = "--" + field.flag;
  if (field.kind == Kind::Boolean && !field.list) {
    entry.left += ", --no-" + field.flag;
  } else {
    entry.left += " " + metavar_of(field);
  }
  entry.right = field.help;
  std::vector<std::string> notes;
  if (field.required) notes.push_back("required");
  if (!field.required && !default_text.empty()) notes.push_back("default " + default_text);
  const bool names_shown = !field.choices.empty() && field.metavar.empty() && join(field.choices, "|").size() <= 24;
  if (const auto limits = limits_text(field); !limits.empty() && !names_shown) notes.push_back(limits);
  if (!field.only_with.empty()) notes.push_back("with " + flags_text(schema_, field.only_with));
  if (field.list) notes.push_back(field.comma_separated ? "separate by commas or repeat" : "may be repeated");
  if (field.positional) notes.push_back(fmt::format("--{} may be left out", field.flag));
  if (!notes.empty()) entry.right += " [" + join(notes, "; ") + "]";
  entries_[option] = entry;
}

void HelpFormatter::add_other(const CLI::Option* option, const std::string& metavar, const std::string& help) {
  const auto left = option->get_name(/*positional=*/false, /*all_options=*/true);
  entries_[option] = Entry{metavar.empty() ? left : left + " " + metavar, help, ""};
}

HelpFormatter::Entry HelpFormatter::entry_of(const CLI::Option* option) const {
  if (const auto at = entries_.find(option); at != entries_.end()) return at->second;
  auto left = option->get_name(/*positional=*/false, /*all_options=*/true);
  if (const auto comma = left.find(','); comma != std::string::npos) left.insert(comma + 1, " ");
  return Entry{left, option->get_description(), ""};
}

std::string HelpFormatter::make_help(const CLI::App* app, std::string, CLI::AppFormatMode) const {
  const auto name = full_name(*app);
  std::string positionals;
  for (const auto& field : schema_.fields) {
    if (field.positional) positionals += fmt::format(" [{}]", metavar_of(field));
  }
  std::string out = app->get_description() + "\n\nUsage: " + name + " [options]" + positionals + "\n";
  std::string group = "Options";
  bool first = true;
  for (const auto* option : app->get_options()) {
    const auto entry = entry_of(option);
    if (first || (!entry.group.empty() && entry.group != group)) {
      if (!entry.group.empty()) group = entry.group;
      out += "\n" + group + ":\n";
      first = false;
    }
    auto line = "  " + entry.left;
    line += line.size() < kLeftWidth ? std::string(kLeftWidth - line.size(), ' ') : "\n" + std::string(kLeftWidth, ' ');
    out += line + wrapped(entry.right, kLeftWidth) + "\n";
  }
  if (const auto footer = app->get_footer(); !footer.empty()) out += "\n" + footer + "\n";
  return out;
}

std::string full_name(const CLI::App& app) {
  const auto* parent = app.get_parent();
  return parent == nullptr ? app.get_name() : full_name(*parent) + " " + app.get_name();
}

}  // namespace slmi::config
