// What `slmi study` can be told: one field list for flags, JSON file and help.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime.h"
#include "slmi/config/config.h"

namespace slmi::cli {

struct StudyConfig {
  std::vector<std::string> models, data;
  std::vector<std::string> formats = {"f32", "bf16", "nf4", "gptq", "Q8_0", "Q4_K_M"};
  std::vector<std::string> devices = {"auto"};
  std::vector<int64_t> threads = {0};
  std::vector<int64_t> batch_sizes = {1, 8, 32};
  std::vector<std::string> hardware;
  double price_per_hour = 0.0;
  std::string base, out;
  bool retry = false, dry_run = false;
  std::vector<std::string> calibration;
  std::optional<int64_t> calibration_rows;
  std::optional<int64_t> calibration_tokens;
  int64_t group_size = 0;
  std::string text_field = "text", answer_field = "answer";
  int64_t limit = 0;
  int64_t eval_batch_size = 32;
  int64_t max_new_tokens = 256;
  int64_t latency_rows = 20;
  double latency_seconds = 30.0;
  bool answer_form = true, prefix_cache = true;
  int64_t seed = 0;

  template <class V>
  static void fields(V&& field) {
    using namespace config;
    using T = StudyConfig;
    field("models", &T::models, Flag{"model"}, Group{"Cells: models x formats x devices x threads"}, Required{},
          Metavar{"[NAME=]MODEL"}, Synonyms{"models", "checkpoint"},
          "A run, adapter, Hugging Face directory or GGUF file; may be repeated");
    field("base", &T::base, Metavar{"MODEL"}, DefaultText{"what each adapter names"}, "Base of the adapters");
    field("formats", &T::formats, CommaSeparated{}, Synonyms{"format", "types", "quantizations"},
          "f32, f16, bf16, nf4, gptq, and GGUF types as Q8_0 or Q4_K_M");
    field("devices", &T::devices, CommaSeparated{}, Synonyms{"device"}, "cpu, cuda, or auto: a GPU where there is one");
    field("threads", &T::threads, AtLeast{0}, CommaSeparated{}, "CPU threads (0: all)");
    field("batch_sizes", &T::batch_sizes, AtLeast{1}, CommaSeparated{}, "Batch sizes for requests a second");
    field("hardware", &T::hardware, CommaSeparated{}, Group{"Costs and predictions"}, Metavar{"NAME"},
          "Predict for hardware that is not here, as T4 or \"Raspberry Pi 5\"; marked as predicted");
    field("price_per_hour", &T::price_per_hour, AtLeast{0}, Metavar{"X"},
          "What this machine costs an hour: gives the cost of a million requests (0: none)");
    field("out", &T::out, Group{"Results"}, Required{}, Metavar{"DIR"}, Synonyms{"output-dir", "output"},
          "Directory of study.json, .md, .csv, .html; a study that was stopped there goes on");
    field("retry", &T::retry, "Try cells again that could not run");
    field("dry_run", &T::dry_run, Synonyms{"plan", "list"}, "Print the cells and stop");
    field("data", &T::data, Group{"Rows"}, Required{}, Metavar{"FILE"}, Synonyms{"dataset", "test", "eval-file"},
          "Rows to answer, JSONL");
    field("limit", &T::limit, AtLeast{0}, Synonyms{"max-samples", "rows"},
          "Use only the first N rows of each file (0: all)");
    field("text_field", &T::text_field, "Name of the request's field in intent rows");
    field("answer_field", &T::answer_field, "Name of the target's field in intent rows");
    field("calibration", &T::calibration, Group{"Quantizing"}, Metavar{"FILE"},
          DefaultText{"what a run was trained on"}, "Rows that gptq and the GGUF types are calibrated on, JSONL");
    field("calibration_rows", &T::calibration_rows, AtLeast{1}, DefaultText{kStudyCalibrationRowsText},
          "Rows of them to use, spread evenly");
    field("calibration_tokens", &T::calibration_tokens, AtLeast{1}, DefaultText{"whole rows"},
          "Longest of these rows in tokens; the rest of a row is left out");
    field("group_size", &T::group_size, AtLeast{-1}, DefaultText{"the largest of 128, 64, 32 that divides every row"},
          "Inputs that share a scale (gptq): 32, 64 or 128; -1: all of a row");
    field("eval_batch_size", &T::eval_batch_size, Group{"Measuring"}, AtLeast{1},
          "Rows answered at once for the scores");
    field("max_new_tokens", &T::max_new_tokens, AtLeast{1},
          "No answer is longer; less if 16 tokens beyond the longest expected one are fewer");
    field("answer_form", &T::answer_form, kAnswerFormHelp);
    field("prefix_cache", &T::prefix_cache, "Compute an instruction that rows share once");
    field("latency_rows", &T::latency_rows, AtLeast{1}, "Requests timed one by one");
    field("latency_seconds", &T::latency_seconds, AtLeast{0},
          "Stop a stage of timing after this long, but not before 10 requests or one batch");
    field("seed", &T::seed, AtLeast{0}, "Seed of the bootstrap");
  }
};

}  // namespace slmi::cli
