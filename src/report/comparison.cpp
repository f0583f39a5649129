// The tables that every text form of a report shares; see comparison.h.
#include "comparison.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "slmi/base/error.h"
#include "slmi/base/progress.h"

namespace slmi::report {

std::string percent(std::optional<double> value) {
  return value && std::isfinite(*value) ? fmt::format("{:.1f} %", *value * 100) : "-";
}

std::string percent(const std::optional<Interval>& value) {
  if (!value) return "-";
  auto out = percent(value->value);
  if (value->low && value->high) out += fmt::format(" ({:.1f}–{:.1f})", *value->low * 100, *value->high * 100);
  return out;
}

std::string number(std::optional<double> value, const char* unit) {
  if (!value || !std::isfinite(*value)) return "-";
  const double size = std::abs(*value);
  const int decimals = size >= 100 || size == 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return fmt::format("{:.{}f}{}{}", *value, decimals, *unit == 0 ? "" : " ", unit);
}

std::string bytes(std::optional<int64_t> value) {
  return value && *value >= 0 ? format_bytes(static_cast<uint64_t>(*value)) : "-";
}

std::string count(int64_t value) {
  auto text = fmt::format("{}", value);
  for (auto at = static_cast<int>(text.size()) - 3; at > (value < 0 ? 1 : 0); at -= 3) {
    text.insert(static_cast<size_t>(at), 1, ',');
  }
  return text;
}

std::string p_value(double p) {
  if (!std::isfinite(p)) return "-";
  return p < 0.0001 ? "< 0.0001" : fmt::format("{:.4f}", p);
}

std::string or_dash(const std::string& text) {
  return text.empty() ? "-" : text;
}

namespace {

using Cell = std::function<std::string(const ModelReport&)>;

std::vector<Column> across_models(const EvalReport& report, Align align) {
  std::vector<Column> out = {{"", Align::Left}};
  for (const auto& model : report.models) out.push_back({model.name, align});
  return out;
}

/// Adds rows of one cell a model, under a heading that appears only if a row does.
class Rows {
 public:
  Rows(Table& table, const EvalReport& report, EmptyRows empty) : table_(table), report_(report), empty_(empty) {}

  void heading(std::string title) { heading_ = std::move(title); }

  void add(const std::string& label, const Cell& cell) { add(label, cell, empty_); }
  /// The same of what only some sets of rows have: never a row of dashes.
  void add_if_any(const std::string& label, const Cell& cell) { add(label, cell, EmptyRows::Drop); }

 private:
  void add(const std::string& label, const Cell& cell, EmptyRows empty) {
    std::vector<std::string> cells = {label};
    bool all_absent = true;
    for (const auto& model : report_.models) {
      cells.push_back(cell(model));
      all_absent = all_absent && cells.back() == "-";
    }
    if (all_absent && empty == EmptyRows::Drop) return;
    if (!heading_.empty()) table_.add_heading(heading_);
    heading_.clear();
    table_.add_row(std::move(cells));
  }

  Table& table_;
  const EvalReport& report_;
  EmptyRows empty_;
  std::string heading_;
};

/// The names that any model has in one of its maps, in the order in which they come.
template <class T>
std::vector<std::string> names_of(const EvalReport& report, Named<T> ModelReport::*map) {
  std::vector<std::string> out;
  for (const auto& model : report.models) {
    for (const auto& [name, value] : model.*map) {
      if (std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
    }
  }
  return out;
}

template <class T>
const T* find(const Named<T>& map, const std::string& name) {
  for (const auto& [key, value] : map) {
    if (key == name) return &value;
  }
  return nullptr;
}

void add_parts(Rows& rows, const EvalReport& report, Named<Part> ModelReport::*map, const char* what) {
  for (const auto& name : names_of(report, map)) {
    rows.add(fmt::format("exact match, {} {}", what, name), [&](const ModelReport& m) {
      const auto* part = find(m.*map, name);
      return part == nullptr ? "-" : percent(part->exact_match) + " of " + count(part->n);
    });
  }
}

void add_quality(Rows& rows, const EvalReport& report) {
  rows.heading("Quality (95 % intervals)");
  rows.add("rows", [](const ModelReport& m) { return count(m.n); });
  rows.add("exact match", [](const ModelReport& m) { return percent(m.exact_match); });
  rows.add("string match", [](const ModelReport& m) { return percent(m.string_match); });
  rows.add_if_any("match in any order of actions", [](const ModelReport& m) { return percent(m.order_free_match); });
  rows.add("valid JSON", [](const ModelReport& m) { return percent(m.valid_json); });
  rows.add("intent accuracy", [](const ModelReport& m) { return percent(m.intent_accuracy); });
  rows.add("slot F1", [](const ModelReport& m) { return percent(m.slot_f1); });
  rows.add("macro F1 of intents", [](const ModelReport& m) { return percent(m.macro_f1); });
  rows.add_if_any("out of scope: precision / recall / F1", [](const ModelReport& m) {
    if (!m.out_of_scope) return std::string("-");
    const auto& s = *m.out_of_scope;
    return percent(s.precision) + " / " + percent(s.recall) + " / " + percent(s.f1) + " of " + count(s.n);
  });
  rows.add_if_any("out of scope: AUROC of the log-probability",
                  [](const ModelReport& m) { return number(m.out_of_scope_auroc); });
  add_parts(rows, report, &ModelReport::slices, "slice");
  add_parts(rows, report, &ModelReport::languages, "language");
}

void add_latency(Rows& rows, const char* label, Quantiles Latency::*what) {
  rows.add(label, [what](const ModelReport& m) {
    const auto& q = m.latency_ms.*what;
    if (!q.p50 && !q.p90 && !q.p95) return std::string("-");
    auto out = number(q.p50) + " / " + number(q.p90) + " / " + number(q.p95);
    return q.p99 ? out + " / " + number(q.p99) : out;
  });
}

void add_speed(Rows& rows, const EvalReport& report) {
  rows.heading("Latency in ms, one request at a time: p50 / p90 / p95 (/ p99)");
  add_latency(rows, "first token", &Latency::ttft);
  add_latency(rows, "per further token", &Latency::tpot);
  add_latency(rows, "whole request", &Latency::e2e);
  rows.heading("Throughput");
  rows.add("prompt tokens per s", [](const ModelReport& m) { return number(m.prefill_tokens_per_s); });
  rows.add("answer tokens per s", [](const ModelReport& m) { return number(m.decode_tokens_per_s); });
  for (const auto& batch : names_of(report, &ModelReport::requests_per_s)) {
    rows.add("requests per s, batch " + batch, [&](const ModelReport& m) {
      const auto* value = find(m.requests_per_s, batch);
      return value == nullptr ? "-" : number(*value);
    });
  }
  rows.add_if_any("J a request, all rows in batches",
                  [](const ModelReport& m) { return number(m.joules_per_request); });
}

void add_memory(Rows& rows) {
  rows.heading("Start and memory");
  rows.add("load", [](const ModelReport& m) { return number(m.load_s, "s"); });
  rows.add("first request", [](const ModelReport& m) { return number(m.first_request_ms, "ms"); });
  rows.add("RSS, anonymous", [](const ModelReport& m) { return bytes(m.rss_anon_bytes); });
  rows.add("RSS, mapped files", [](const ModelReport& m) { return bytes(m.rss_file_bytes); });
  rows.add("RSS, highest", [](const ModelReport& m) { return bytes(m.rss_peak_bytes); });
  rows.add("VRAM, allocator", [](const ModelReport& m) { return bytes(m.vram_allocator_bytes); });
  rows.add("VRAM, device", [](const ModelReport& m) { return bytes(m.vram_device_bytes); });
}

std::string weights_text(const ModelReport& model) {
  switch (model.weights) {
    case Weights::Real:
      return "real";
    case Weights::Random:
      return "RANDOM (not trained: no statement about quality)";
    default:
      return "-";
  }
}

/// Enough of a hash to tell files apart; the JSON has it whole.
std::string short_hash(const std::string& hash) {
  return hash.empty() ? "-" : hash.substr(0, 12);
}

}  // namespace

Table comparison_table(const EvalReport& report, EmptyRows empty) {
  Table table(across_models(report, Align::Right));
  Rows rows(table, report, empty);
  add_quality(rows, report);
  add_speed(rows, report);
  add_memory(rows);
  return table;
}

Table against_table(const EvalReport& report) {
  Table table({{"model"},
               {"against"},
               {"rows both answered", Align::Right},
               {"lost", Align::Right},
               {"gained", Align::Right},
               {"p (exact McNemar)", Align::Right},
               {"smallest visible drop", Align::Right}});
  for (const auto& model : report.models) {
    if (!model.against) continue;
    const auto& a = *model.against;
    table.add_row(
        {model.name, a.reference, count(a.n), count(a.lost), count(a.gained), p_value(a.p), percent(a.smallest_drop)});
  }
  return table;
}

Table models_table(const EvalReport& report) {
  Table table(across_models(report, Align::Left));
  Rows rows(table, report, EmptyRows::Drop);
  rows.add("model", [](const ModelReport& m) { return or_dash(m.model); });
  rows.add("base", [](const ModelReport& m) { return or_dash(m.base); });
  rows.add("base weights", weights_text);
  rows.add("base SHA-256", [](const ModelReport& m) { return short_hash(m.base_sha256); });
  rows.add("base format", [](const ModelReport& m) { return or_dash(m.base_format); });
  rows.add("compute", [](const ModelReport& m) { return or_dash(m.compute); });
  rows.add("engine", [](const ModelReport& m) { return or_dash(m.engine); });
  rows.add("prefix cache",
           [](const ModelReport& m) { return m.prefix_cache ? std::string(*m.prefix_cache ? "on" : "off") : "-"; });
  rows.add("template", [](const ModelReport& m) { return or_dash(m.template_name); });
  rows.add("template SHA-256", [](const ModelReport& m) { return short_hash(m.template_sha256); });
  rows.add("tokenizer SHA-256", [](const ModelReport& m) { return short_hash(m.tokenizer_sha256); });
  for (const auto& model : report.models) {
    for (const auto& note : model.notes) {
      rows.add("note", [&](const ModelReport& m) { return &m == &model ? note : std::string("-"); });
    }
  }
  return table;
}

Table environment_table(const EvalReport& report) {
  Table table({{"environment"}, {""}});
  const auto& machine = report.machine;
  const auto add = [&](const char* name, const std::string& value) { table.add_row({name, or_dash(value)}); };
  const auto plain = [](const std::optional<int64_t>& value) { return value ? fmt::format("{}", *value) : "-"; };
  add("date", report.date);
  add("command", report.command);
  add("processor", machine.cpu);
  add("cores", machine.cores > 0 ? count(machine.cores) : "-");
  add("memory", bytes(machine.memory_bytes));
  add("system", machine.os);
  add("GPU", machine.gpu);
  add("device", report.device);
  add("engine", report.engine);
  add("threads", plain(report.threads));
  add("seed", plain(report.seed));
  add("slmi", report.build.version);
  add("commit", report.build.commit);
  add("libtorch", report.build.libtorch);
  add("CUDA", report.build.cuda);
  add("SIMD in use", report.build.simd);
  add("compiler", report.build.compiler);
  return table;
}

Table data_table(const EvalReport& report) {
  Table table({{"data file"}, {"use"}, {"rows", Align::Right}, {"SHA-256"}});
  for (const auto& file : report.data) table.add_row({file.path, file.use, count(file.rows), or_dash(file.sha256)});
  return table;
}

Table fields_table(const ModelReport& model) {
  Table table({{"field"}, {"right", Align::Right}});
  for (const auto& [name, value] : model.fields) table.add_row({name, percent(value)});
  return table;
}

Table intents_table(const ModelReport& model) {
  Table table({{"intent"},
               {"rows", Align::Right},
               {"precision", Align::Right},
               {"recall", Align::Right},
               {"F1", Align::Right},
               {"exact match", Align::Right}});
  for (const auto& [name, score] : model.per_intent) {
    table.add_row({name, count(score.n), percent(score.precision), percent(score.recall), percent(score.f1),
                   percent(score.exact_match)});
  }
  return table;
}

Table parts_table(const Named<Part>& parts, const char* title) {
  Table table({{title}, {"rows", Align::Right}, {"exact match", Align::Right}});
  for (const auto& [name, part] : parts) table.add_row({name, count(part.n), percent(part.exact_match)});
  return table;
}

Table confused_table(const Confusion& confusion, size_t limit) {
  struct Pair {
    size_t expected, answered;
    int64_t n;
  };
  std::vector<Pair> pairs;
  for (size_t i = 0; i < confusion.counts.size(); ++i) {
    for (size_t j = 0; j < confusion.counts[i].size(); ++j) {
      const bool wrong = confusion.expected[i] != confusion.answered[j];
      if (wrong && confusion.counts[i][j] > 0) pairs.push_back({i, j, confusion.counts[i][j]});
    }
  }
  std::stable_sort(pairs.begin(), pairs.end(), [](const Pair& a, const Pair& b) { return a.n > b.n; });
  if (pairs.size() > limit) pairs.resize(limit);
  Table table({{"expected"}, {"answered"}, {"rows", Align::Right}});
  for (const auto& p : pairs) {
    table.add_row({confusion.expected[p.expected], confusion.answered[p.answered], count(p.n)});
  }
  return table;
}

Table examples_table(const std::vector<Example>& examples, size_t limit) {
  Table table({{"id"}, {"request"}, {"expected"}, {"answer"}, {""}});
  for (size_t i = 0; i < std::min(limit, examples.size()); ++i) {
    const auto& e = examples[i];
    table.add_row({e.id, e.text, e.expected, e.answer, e.note});
  }
  return table;
}

Table flipped_table(const Against& against, size_t limit) {
  Table table({{"id"}, {"request"}, {"expected"}, {"answer"}, {"answer of " + against.reference}, {""}});
  for (size_t i = 0; i < std::min(limit, against.flipped.size()); ++i) {
    const auto& e = against.flipped[i];
    table.add_row({e.id, e.text, e.expected, e.answer, or_dash(e.reference_answer.value_or("")), e.note});
  }
  return table;
}

}  // namespace slmi::report
