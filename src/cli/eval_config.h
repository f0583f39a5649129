// What `slmi eval` can be told: one field list for flags, JSON file and help.
#pragma once

#include <string>
#include <vector>

#include "runtime.h"
#include "slmi/config/config.h"
#include "slmi/eval/evaluate.h"

namespace slmi::cli {

struct EvalConfig {
  std::vector<std::string> models, predictions, data;
  std::string out;
  int64_t limit = 0;
  std::string reference, leaks;
  std::vector<std::string> fail_under;
  eval::Baselines baselines = eval::Baselines::Auto;
  std::vector<std::string> train_data;
  std::string text_field = "text", answer_field = "answer";
  int64_t eval_batch_size = 32;
  int64_t max_new_tokens = 256;
  bool answer_form = true;
  bool prefix_cache = true;
  int64_t latency_rows = 50;
  double latency_seconds = 60.0;
  std::vector<int64_t> batch_sizes = {1, 8, 32};
  int64_t seed = 0;
  ModelFlags model;
  double comm_timeout = 60.0;

  template <class V>
  static void fields(V&& field) {
    using namespace config;
    using T = EvalConfig;
    field("model", &T::models, Group{"What is compared"}, Metavar{"[NAME=]MODEL"},
          Synonyms{"models", "model-name", "checkpoint"}, "A Hugging Face directory, GGUF file, adapter or run");
    field("predictions", &T::predictions, Metavar{"NAME=FILE"}, "Another system's answers, JSONL of id and answer");
    field("reference", &T::reference, Metavar{"NAME"}, DefaultText{"the first"}, "Hold all others against this one");
    field("baselines", &T::baselines,
          Choice<eval::Baselines>{{"auto", eval::Baselines::Auto}, {"none", eval::Baselines::None}},
          "Plain baselines beside the models");
    field("train_data", &T::train_data, Metavar{"FILE"}, DefaultText{"what the first run was trained on"},
          "Rows for the plain baseline, JSONL");
    field("data", &T::data, Group{"Rows"}, Required{}, Metavar{"FILE"},
          Synonyms{"dataset", "test", "test-file", "eval-file"}, "Rows to answer, JSONL");
    field("limit", &T::limit, AtLeast{0}, Synonyms{"max-samples", "num-rows"},
          "Use only the first N rows of each file (0: all)");
    field("leaks", &T::leaks, Metavar{"FILE"}, DefaultText{"leaks.tsv beside the data"},
          "Row ids (first column) to score without as well");
    field("text_field", &T::text_field, "Name of the request's field in intent rows");
    field("answer_field", &T::answer_field, "Name of the target's field in intent rows");
    field("out", &T::out, Group{"Results"}, Required{}, Metavar{"DIR"}, Synonyms{"output-dir", "output"},
          "Directory for predictions.jsonl and report.json, .md, .csv, .html");
    field("fail_under", &T::fail_under, Metavar{"[NAME:]METRIC=X"}, Synonyms{"threshold"},
          "Exit with 6 if a metric is lower, e.g. exact_match=0.97");
    field("eval_batch_size", &T::eval_batch_size, Group{"Measuring"}, AtLeast{1},
          Synonyms{"batch-size", "per-device-eval-batch-size"}, "Rows answered at once for the scores");
    field("max_new_tokens", &T::max_new_tokens, AtLeast{1}, Synonyms{"max-length", "max-tokens"},
          "No answer is longer; less if 16 tokens beyond the longest expected one are fewer");
    field("answer_form", &T::answer_form, kAnswerFormHelp);
    field("prefix_cache", &T::prefix_cache, "Compute an instruction that rows share once");
    field("latency_rows", &T::latency_rows, AtLeast{0}, "Requests timed one by one (0: no timing)");
    field("latency_seconds", &T::latency_seconds, AtLeast{0},
          "Stop a stage of timing after this long, but not before 10 requests or one batch");
    field("batch_sizes", &T::batch_sizes, AtLeast{1}, CommaSeparated{}, "Batch sizes for requests a second");
    field("seed", &T::seed, AtLeast{0}, "Seed of the bootstrap");
    field(Inline{}, &T::model, Group{"Model and machine"});
    field("comm_timeout", &T::comm_timeout, Above{0}, Metavar{"SECONDS"}, train::kCommTimeoutHelp);
  }
};

}  // namespace slmi::cli
