// What an evaluation found, as plain data: the writers (writers.h) turn it into JSON, Markdown, CSV and HTML.
// An absent value is an empty optional or an empty list; it is written as null and shown as "-", never invented.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace slmi::report {

/// A map in the order in which it shall be shown.
template <class T>
using Named = std::vector<std::pair<std::string, T>>;

/// A proportion or score in 0..1 with its 95 % interval.
struct Interval {
  double value = 0;
  std::optional<double> low = {}, high = {};
};

struct Quantiles {
  std::optional<double> p50, p90, p95;
  std::optional<double> p99;  // only from 1,000 requests on
};

/// Milliseconds at batch 1.
struct Latency {
  Quantiles ttft;  // to the first token
  Quantiles tpot;  // per token after the first
  Quantiles e2e;   // the whole request
};

struct IntentScore {
  int64_t n = 0;  // rows that expect this intent
  double precision = 0, recall = 0, f1 = 0;
  std::optional<double> exact_match;
};

/// A part of the rows: a slice or a language. JSON {n, exact_match, low, high}, exact_match a plain number.
struct Part {
  int64_t n = 0;
  Interval exact_match;
};

/// Rows by expected (row) and answered (column) intent.
struct Confusion {
  std::vector<std::string> expected, answered;  // labels; `answered` may hold more, e.g. "(not JSON)"
  std::vector<std::vector<int64_t>> counts;     // [expected][answered]
};

/// A row that the model got wrong, or that flipped against the reference.
struct Example {
  std::string id, text, expected, answer;
  std::optional<std::string> reference_answer;  // of a flipped row
  std::string note;                             // "wrong slot: artist", "lost", "gained"
};

/// Against the reference model, on the rows that both answered (exact McNemar test).
struct Against {
  std::string reference;
  int64_t n = 0;     // rows that both answered
  int64_t lost = 0;  // rows that the reference had right and this model has wrong
  int64_t gained = 0;
  double p = 1;                         // two-sided
  std::optional<double> smallest_drop;  // the smallest drop of exact match that n rows could have shown, 0..1
  std::vector<Example> flipped;
};

enum class Weights {
  Real,
  Random,
  None
};  // None: not a language model (rules, bag of words, another system's answers)

struct ModelReport {
  std::string name;
  // What was measured.
  std::string model;                 // path or description
  std::string base, base_sha256;     // empty: none
  Weights weights = Weights::Real;   // of the base
  std::string base_format, compute;  // "q4_1", "bf16"
  std::string engine;                // "slmi cpu", "predictions"
  std::string template_name, template_sha256, tokenizer_sha256;
  std::optional<bool> prefix_cache;
  // How good: n rows.
  int64_t n = 0;
  Interval exact_match;                  // of the parsed JSON
  std::optional<Interval> string_match;  // of the text
  // Of the rows that expect several actions: equal in any order.
  std::optional<Interval> order_free_match;
  std::optional<Interval> valid_json;
  std::optional<Interval> intent_accuracy, slot_f1, macro_f1;
  Named<double> fields;  // accuracy of each field, 0..1
  Named<IntentScore> per_intent;
  std::optional<IntentScore> out_of_scope;   // out-of-scope rows as one class; absent without any
  std::optional<double> out_of_scope_auroc;  // of the answer's log-probability: lower ones should be out of scope
  Named<Part> slices, languages;
  std::optional<Confusion> confusion;
  std::optional<Against> against;
  // How fast and how big.
  Latency latency_ms;
  std::vector<double> e2e_samples_ms;  // one a request, for the plot
  std::optional<double> prefill_tokens_per_s, decode_tokens_per_s;
  Named<double> requests_per_s;              // by batch size: "1", "8", "32"
  std::optional<double> joules_per_request;  // of the whole machine, answering all rows in batches
  std::optional<double> load_s, first_request_ms;
  std::optional<int64_t> rss_anon_bytes, rss_file_bytes, vram_allocator_bytes, vram_device_bytes;
  std::optional<int64_t> rss_peak_bytes;  // until the requests at batch 1 were done
  std::vector<Example> errors;            // the worst ones
  std::vector<std::string> notes;
};

struct Machine {
  std::string cpu, os, gpu;  // gpu empty: none used
  int64_t cores = 0;         // that the process may use
  std::optional<int64_t> memory_bytes;
};

struct Build {
  std::string version, commit, libtorch, cuda, simd, compiler;
};

struct DataFile {
  std::string path, sha256;
  int64_t rows = 0;
  std::string use;  // "test", "train"
};

struct TrainingCurve {
  std::string name;
  std::vector<double> step, loss;                   // training
  std::vector<double> val_step, val_loss;           // validation
  std::vector<double> match_step, val_exact_match;  // 0..1
};

struct EvalReport {
  std::string title = "slmi evaluation";
  std::string command, date;  // ISO 8601, UTC
  Machine machine;
  Build build;
  std::optional<int64_t> seed, threads;
  std::string engine, device;
  std::vector<DataFile> data;
  std::vector<ModelReport> models;
  std::vector<TrainingCurve> training;
  std::vector<std::string> notes;
};

}  // namespace slmi::report
