// What one model did in its own process: every answer, and what was measured, as plain data that crosses to the parent.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "slmi/base/json.h"

namespace slmi::eval {

/// The answer to one row.
struct RowAnswer {
  std::string id;                         // of the row
  std::string answer;                     // decoded, without the stop token
  std::optional<double> log_probability;  // sum over the answer's tokens and its stop token; absent: not known
  bool complete = true;                   // ended by itself, not cut at the longest answer allowed
};

/// One request at batch 1, milliseconds.
struct RequestTimes {
  double ttft = 0.0;           // from the request's text to the first token
  double e2e = 0.0;            // from the request's text to the answer's
  std::optional<double> tpot;  // a token after the first; absent for answers of one token
};

/// Timing of one model on this machine.
struct SpeedRun {
  double load_s = 0.0;                              // files, weights, adapter, vocabulary
  double first_request_ms = 0.0;                    // the first one after loading
  std::vector<RequestTimes> requests;               // at batch 1, in the order in which they were asked
  double prompt_tokens = 0.0, answer_tokens = 0.0;  // of those requests, means; prompts without what was cached
  std::optional<double> prefill_tokens_per_s;       // whole prompts at batch 1, nothing taken from the prefix cache
  std::optional<double> decode_tokens_per_s;        // tokens after the first, batch 1
  std::vector<std::pair<int64_t, double>> requests_per_s;  // by batch size
  double accuracy_s = 0.0;                                 // wall time of answering all rows
  int64_t accuracy_batch = 0;                              // rows answered at once in that time
  int64_t accuracy_rows = 0;                               // rows answered in that time
  std::optional<double> accuracy_energy_j;  // of the machine in that time; absent: no counter can be read
  std::string energy_sources;               // "RAPL package-0", or why there is none
};

/// What the model is made of.
struct ModelFacts {
  std::string path, kind;              // kind: "hf", "gguf", "adapter", "run"
  std::string base, base_fingerprint;  // path, and hash of what tells it from its sisters
  std::string base_sha256;  // of the base's weight file; empty: several files, or too large to hash each time
  std::string weights;      // "real" or "random", by slmi.json or untouched norms; "": not known
  std::string base_format, compute, device;
  std::string engine;  // "slmi cpu"
  std::string template_name, template_sha256, tokenizer_sha256, system_text;
  int64_t max_new_tokens = 0;
  bool prefix_cache = true;
  std::string answer_form;      // what answers are held to, described; empty: nothing
  int64_t shared_prefixes = 0;  // instructions that rows had in common
  int64_t threads = 0;
  std::string simd;
  std::string gpu;  // name; empty: none used
};

struct ModelRun {
  std::string name;
  ModelFacts facts;
  std::vector<RowAnswer> answers;  // in the order of the rows; without the rows that are too long for the model
  int64_t held = 0;                // answers with a token that is not the likeliest, for the sake of their form
  int64_t too_long = 0;            // rows that do not fit the model's positions: they have no answer
  std::optional<double> loss;      // mean over the expected answers' tokens, nats; absent: not measured
  SpeedRun speed;
  // Bytes, after the requests at batch 1: what serving them takes.
  std::optional<int64_t> rss_anon_bytes, rss_file_bytes, rss_peak_bytes, vram_allocator_bytes, vram_device_bytes;
  std::vector<std::string> notes;
};

Json to_json(const ModelRun& run);
/// The inverse. @throws Error{Input} naming `source` and what is missing or of the wrong type.
ModelRun model_run_from_json(const Json& json, const std::string& source);

}  // namespace slmi::eval
