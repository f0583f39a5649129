// A report with every part filled in, from made-up numbers, for the tests of the report module.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "slmi/report/report.h"

namespace slmi::report {

/// Three models on 700 rows: an untouched base, a fine-tuned one with everything measured, and a bag of words.
inline EvalReport example_report() {
  EvalReport report;
  report.title = "Requests <test> & \"quotes\"";
  report.command = "slmi eval --model base --model fine-tuned=run --data test.jsonl --out out";
  report.date = "2024-05-06T07:08:09Z";
  report.machine = {"Example CPU @ 2.0 GHz", "Debian GNU/Linux 12", "", 2, int64_t{8} << 30};
  report.build = {"0.1.0", "0123abc", "2.11.0", "", "avx2", "GNU 12.2.0"};
  report.seed = 17;
  report.threads = 2;
  report.engine = "slmi cpu, exact";
  report.device = "cpu";
  report.data = {{"data/test.jsonl", std::string(64, 'a'), 700, "test"},
                 {"data/train.jsonl", std::string(64, 'b'), 3000, "train"}};
  report.notes = {"Example numbers: nothing here was measured."};

  ModelReport base;
  base.name = "base";
  base.model = "SmolLM2-135M-Instruct.Q4_1.gguf";
  base.base = base.model;
  base.base_sha256 = std::string(64, 'c');
  base.base_format = "q4_1";
  base.compute = "f32";
  base.engine = "slmi cpu";
  base.template_name = "chatml";
  base.template_sha256 = std::string(64, 'd');
  base.tokenizer_sha256 = std::string(64, 'e');
  base.prefix_cache = true;
  base.n = 700;
  base.exact_match = {0, 0, 0.0055};
  base.valid_json = Interval{0.021, 0.0127, 0.0346};
  base.intent_accuracy = Interval{0.004, {}, {}};
  base.slot_f1 = Interval{0, {}, {}};

  ModelReport tuned = base;
  tuned.name = "fine-tuned";
  tuned.model = "run";
  tuned.exact_match = {0.663, 0.627, 0.697};
  tuned.string_match = Interval{0.66, 0.624, 0.694};
  tuned.valid_json = Interval{0.999, 0.992, 1};
  tuned.intent_accuracy = Interval{0.981, 0.968, 0.989};
  tuned.slot_f1 = Interval{0.848, 0.829, 0.866};
  tuned.macro_f1 = Interval{0.979, {}, {}};
  tuned.fields = {{"intent", 0.981}, {"artist", 0.77}};
  tuned.per_intent = {{"AddToPlaylist", {100, 0.99, 1, 0.995, 0.71}},
                      {"BookRestaurant", {98, 1, 0.97, 0.985, 0.58}},
                      {"GetWeather", {104, 0.98, 0.99, 0.985, {}}}};
  tuned.slices = {{"test_iid", {400, {0.7, 0.65, 0.74}}}, {"test_verb", {300, {0.61, {}, {}}}}};
  tuned.languages = {{"en", {700, {0.663, 0.627, 0.697}}}};
  tuned.order_free_match = Interval{0.7, 0.66, 0.73};
  tuned.out_of_scope = IntentScore{90, 0.91, 0.82, 0.863, 0.8};
  tuned.out_of_scope_auroc = 0.93;
  tuned.confusion = Confusion{{"AddToPlaylist", "BookRestaurant", "GetWeather"},
                              {"AddToPlaylist", "BookRestaurant", "GetWeather", "(not JSON)"},
                              {{100, 0, 0, 0}, {1, 95, 1, 1}, {0, 1, 103, 0}}};
  tuned.against = Against{"base", 700, 0, 464, 1e-30, 0.011, {}};
  tuned.against->flipped = {{"3", "play <b>Ärger & Co</b>", "{\"a\": 1}", "{\"a\": 1}", "no | idea", "gained"}};
  tuned.latency_ms.ttft = {41, 52.5, 60, {}};
  tuned.latency_ms.tpot = {9.25, 9.9, 10.4, {}};
  tuned.latency_ms.e2e = {312, 450, 498, {}};
  for (int i = 0; i < 700; ++i) tuned.e2e_samples_ms.push_back(250 + 80 * std::pow(i / 350.0, 2));
  tuned.prefill_tokens_per_s = 1450.5;
  tuned.decode_tokens_per_s = 108;
  tuned.requests_per_s = {{"1", 3.2}, {"8", 9.75}, {"32", 14}};
  tuned.joules_per_request = 1.875;
  tuned.load_s = 0.21;
  tuned.first_request_ms = 340;
  tuned.rss_anon_bytes = 212 << 20;
  tuned.rss_file_bytes = 98 << 20;
  tuned.rss_peak_bytes = 320 << 20;
  tuned.errors = {{"7",
                   "book <script>alert(1)</script> for 4",
                   "{\"intent\": \"BookRestaurant\"}",
                   "{\"intent\": ",
                   {},
                   "not JSON"},
                  {"9",
                   "wetter in 北京 \xF0\x9F\x8C\xA7",
                   "{\"city\": \"北京\"}",
                   "{\"city\": \"\x1b[31mx\xff\"}",
                   {},
                   "wrong slot: city"}};

  ModelReport bag;
  bag.name = "bag-of-words";
  bag.weights = Weights::None;
  bag.n = 700;
  bag.exact_match = {0.17, 0.144, 0.2};
  bag.valid_json = Interval{1, {}, {}};
  bag.latency_ms.e2e = {0.4, 0.6, 0.7, {}};
  for (int i = 0; i < 700; ++i) bag.e2e_samples_ms.push_back(0.3 + 0.001 * (i % 300));
  bag.against = Against{"base", 700, 0, 119, 3e-2, {}, {}};
  report.models = {base, tuned, bag};

  TrainingCurve curve;
  curve.name = "run";
  for (int i = 1; i <= 375; ++i) {
    curve.step.push_back(i);
    curve.loss.push_back(2.5 * std::exp(-i / 40.0) + 0.12 + 0.05 * std::sin(i * 1.7));
  }
  curve.val_step = curve.match_step = {75, 150, 225, 300, 375};
  curve.val_loss = {0.5, 0.22, 0.17, 0.15, 0.14};
  curve.val_exact_match = {0.21, 0.5, 0.6, 0.64, 0.66};
  report.training = {curve};
  return report;
}

}  // namespace slmi::report
