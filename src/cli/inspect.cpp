// slmi inspect: prints what inspect_artefact.cpp finds; exit code 3 if something is not sound.
#include <iostream>

#include "commands.h"
#include "inspect_artefact.h"
#include "slmi/base/error.h"
#include "slmi/base/progress.h"
#include "slmi/config/command_line.h"

namespace slmi::cli {
namespace {

struct InspectConfig {
  std::vector<std::string> paths;
  std::string base;
  bool tensors = false;
  bool json = false;
  bool values = true;
  int64_t threads = 0;

  template <class V>
  static void fields(V&& field) {
    using namespace config;
    using T = InspectConfig;
    field("path", &T::paths, Positional{}, Required{}, Metavar{"FILE|DIR"},
          "safetensors or GGUF file, tokenizer, Hugging Face directory, PEFT adapter or run; several may stand here");
    field("base", &T::base, Metavar{"MODEL"}, DefaultText{"what the adapter names"},
          "Base that an adapter or run is held against");
    field("tensors", &T::tensors, "List every tensor");
    field("values", &T::values, "Look for NaN and infinities in all values");
    field("json", &T::json, "One JSON array instead of text");
    field("threads", &T::threads, AtLeast{0}, "CPU threads (0: all)");
  }
};

/// A fact as text: sizes for people, objects as "key value" pairs.
std::string shown(const std::string& key, const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_unsigned() && key.ends_with("bytes")) return format_bytes(value.get<uint64_t>());
  if (!value.is_structured()) return value.dump();
  std::vector<std::string> parts;
  for (const auto& item : value.items()) {
    const bool empty =
        item.value().is_null() || item.value() == "" || (item.value().is_structured() && item.value().empty());
    if (value.is_object() && empty) continue;
    const std::string text = shown(item.key(), item.value());
    parts.push_back(value.is_object() ? item.key() + " " + text : text);
  }
  if (value.is_object()) return fmt::format("{}", fmt::join(parts, ", "));
  if (parts.empty()) return "none";
  return fmt::format("{}", fmt::join(parts, value[0].is_object() ? "; " : " "));
}

void print(const Inspection& found, const InspectConfig& config, std::ostream& out) {
  out << found.path << ": " << found.kind << (found.problems.empty() ? ", sound" : ", NOT sound") << "\n";
  for (const auto& item : found.facts.items())
    if (item.key() != "provenance") out << fmt::format("  {:<14} {}\n", item.key(), shown(item.key(), item.value()));
  if (found.facts.contains("provenance")) {
    for (const auto& part : found.facts["provenance"].items()) {
      const std::string text = shown(part.key(), part.value());
      if (!part.value().is_null() && !text.empty())
        out << fmt::format("  {:<14} {}: {}\n", "provenance", part.key(), text);
    }
  }
  if (config.tensors)
    for (const auto& t : found.tensors)
      out << fmt::format("  {:<60} {:<5} {:<16} {}\n", t.name, t.format, t.shape, format_bytes(t.bytes));
  for (const auto& note : found.notes) out << "  note: " << note << "\n";
  if (!found.next.empty() && found.problems.empty()) out << "\nnext:\n  " << found.next << "\n";
}

Json to_json(const Inspection& found, const InspectConfig& config) {
  Json out = {{"path", found.path},   {"kind", found.kind},   {"sound", found.problems.empty()},
              {"facts", found.facts}, {"notes", found.notes}, {"problems", found.problems}};
  if (!config.tensors) return out;
  Json list = Json::array();
  for (const auto& t : found.tensors)
    list.push_back({{"name", t.name}, {"format", t.format}, {"shape", t.shape}, {"bytes", t.bytes}});
  out["tensors"] = list;
  return out;
}

void run_inspect(const InspectConfig& config, Runtime& rt) {
  choose_threads(config.threads);
  std::vector<std::string> problems;
  Json all = Json::array();
  for (const auto& path : config.paths) {
    const Inspection found = inspect(path, {config.base, config.values});
    problems.insert(problems.end(), found.problems.begin(), found.problems.end());
    if (config.json) {
      all.push_back(to_json(found, config));
    } else {
      print(found, config, rt.out);
    }
  }
  // Names of tensors and tokens come from files: whatever bytes they are, the output stays text.
  if (config.json) rt.out << all.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
  rt.out << std::flush;
  require(problems.empty(), ErrorKind::Input, "{}", fmt::join(problems, "\n"));
}

}  // namespace

void add_inspect(CLI::App& app, Runtime& rt) {
  CLI::App& command = config::add_command(app, "inspect", "What is in a file or directory, and whether it is sound",
                                          "slmi inspect --tensors model.gguf");
  auto binding = config::bind<InspectConfig>(command);
  config::set_action(command, [binding, &rt] { run_inspect(binding->resolve(), rt); });
}

}  // namespace slmi::cli
