// Measures one model in this process: accuracy, latency, throughput, memory.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "slmi/data/row.h"
#include "slmi/data/row_reader.h"
#include "slmi/eval/model_run.h"
#include "slmi/model/open.h"

namespace slmi::eval {

struct MeasureOptions {
  int64_t batch_size = 32;                        // rows answered at once in the accuracy run
  int64_t max_new_tokens = 256;                   // no answer is longer; the limit used is that of answer_limit()
  int64_t latency_rows = 50;                      // requests timed at batch 1; 0: no timing at all
  double latency_seconds = 60.0;                  // of each stage of timing; no limit for kMinLatencyRows or a batch
  std::vector<int64_t> batch_sizes = {1, 8, 32};  // for requests a second
  bool answer_form = true;                        // hold answers to the form of the model's training answers, if known
  bool prefix_cache = true;
  bool loss = false;              // the expected answers' loss too
  bool answers = true;            // the accuracy run; false: timing alone
  int64_t share = 0, shares = 1;  // of the accuracy run's batches those numbered share, share + shares, ...
};

/// Timed requests that no time limit cuts.
inline constexpr int64_t kMinLatencyRows = 10;
/// Tokens that an answer may have beyond the longest expected one.
inline constexpr int64_t kAnswerSlack = 16;

/// Where the rows are, and how they are read; the system turn is the model's own.
struct RowSource {
  std::vector<std::filesystem::path> files;
  std::string text_field = "text", answer_field = "answer";
  int64_t limit = 0;  // the first rows of each file; 0: all
};
/// Reads the rows. @throws Error{Input} as data::read_rows.
data::RowSet read_source(const RowSource& source, const std::string& system_text);

/// A stage's progress: `done` of `total` units.
using ProgressHook = std::function<void(const std::string& stage, int64_t done, int64_t total)>;

struct MeasureHooks {
  ProgressHook progress;                     // may be empty
  const std::atomic<int>* signal = nullptr;  // SIGINT or SIGTERM that arrived, or 0; may be null
};

/// Opens the model at `path` and measures it: load, first request, requests at batch 1 (after a warm-up of the same
/// shape), prefill, each batch size, then every row in batches (rows of one prefix together). Which rows a batch has
/// does not depend on options.share: the shares together hold the answers of the whole, bit for bit.
/// @throws Error{Input} for the model or the rows, Error{Usage} if no row fits, Error{Interrupted|Terminated} on a
/// signal.
ModelRun measure_model(const std::string& name, const std::filesystem::path& path, const RowSource& source,
                       const model::OpenOptions& open, const MeasureOptions& options, const MeasureHooks& hooks);

}  // namespace slmi::eval
