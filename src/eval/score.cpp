// Quality of a system's answers; see the header.
#include "score.h"

#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "slmi/base/error.h"
#include "slmi/metrics/statistics.h"
#include "slmi/metrics/summary.h"

namespace slmi::eval {
namespace {

using metrics::Estimate;
using metrics::RowScore;
using report::Interval;

constexpr size_t kShownErrors = 50;
constexpr size_t kNamedSlots = 3;  // wrong slots named in an error's note
constexpr const char* kWithoutLeaks = "without leaks";

Interval interval(const Estimate& e) {
  return {e.value, e.low, e.high};
}
std::optional<Interval> interval(const std::optional<Estimate>& e) {
  return e ? std::optional(interval(*e)) : std::nullopt;
}

report::Part part(const metrics::Part& p) {
  return {p.n, interval(p.exact_match)};
}

Json parsed(const std::string& text) {
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

report::IntentScore intent_score(const metrics::ClassScore& c) {
  return {c.support, c.precision, c.recall, c.f1, c.exact_match};
}

/// How well low log-probabilities tell the rows that are out of scope; absent unless every answer has one.
std::optional<double> out_of_scope_auroc(const System& system) {
  std::vector<double> outside, inside;
  for (size_t i = 0; i < system.answers.size(); ++i) {
    const auto& log_probability = system.answers[i].log_probability;
    if (!log_probability) return std::nullopt;
    (system.scores[i].oos ? outside : inside).push_back(-*log_probability);
  }
  return metrics::auroc(outside, inside);
}

/// Names of the slots that differ, some of them.
std::string wrong_slots(const std::string& expected, const std::string& answer) {
  const Json want = parsed(expected), got = parsed(answer);
  if (!want.is_object() || !got.is_object() || !want.contains("slots")) return {};
  const Json empty = Json::object();
  const Json& want_slots = want["slots"];
  const Json& got_slots = got.contains("slots") && got["slots"].is_object() ? got["slots"] : empty;
  if (!want_slots.is_object()) return {};
  std::vector<std::string> names;
  for (const auto& [name, value] : want_slots.items()) {
    if (!got_slots.contains(name))
      names.push_back("no " + name);
    else if (!metrics::json_equal(value, got_slots[name]))
      names.push_back(name);
  }
  for (const auto& [name, value] : got_slots.items())
    if (!want_slots.contains(name)) names.push_back("extra " + name);
  if (names.size() > kNamedSlots) names.resize(kNamedSlots);
  return names.empty() ? std::string() : fmt::format("slots: {}", fmt::join(names, ", "));
}

/// What is wrong with an answer, in a few words.
std::string problem(const RowScore& score, const RowAnswer& answer, const std::string& expected) {
  if (!answer.complete) return answer.answer.empty() ? "no answer" : "cut at the longest answer allowed";
  if (score.valid_json && !*score.valid_json) return "not JSON";
  if (score.expected_intent && score.got_intent != *score.expected_intent)
    return fmt::format("intent: {} instead of {}", score.got_intent, *score.expected_intent);
  if (auto slots = wrong_slots(expected, answer.answer); !slots.empty()) return slots;
  std::vector<std::string> names;
  for (const auto& [name, right] : score.fields)
    if (!right) names.push_back(name);
  return names.empty() ? "another answer" : fmt::format("wrong: {}", fmt::join(names, ", "));
}

/// Wrong answers, those that the model was surest of first.
std::vector<report::Example> worst_errors(const System& system, const data::RowSet& set) {
  std::vector<size_t> wrong;
  for (size_t i = 0; i < system.answers.size(); ++i)
    if (!system.scores[i].exact_match) wrong.push_back(i);
  std::stable_sort(wrong.begin(), wrong.end(), [&](size_t a, size_t b) {
    constexpr double kUnknown = -1e30;
    return system.answers[a].log_probability.value_or(kUnknown) > system.answers[b].log_probability.value_or(kUnknown);
  });
  if (wrong.size() > kShownErrors) wrong.resize(kShownErrors);
  std::vector<report::Example> out;
  for (const size_t i : wrong) {
    const auto& row = set.rows[static_cast<size_t>(system.rows[i])];
    out.push_back({row.id, row.text, row.answer, system.answers[i].answer, std::nullopt,
                   problem(system.scores[i], system.answers[i], row.answer)});
  }
  return out;
}

std::string share_text(const Estimate& e) {
  return fmt::format("{:.1f} % ({:.1f}-{:.1f})", 100 * e.value, 100 * e.low, 100 * e.high);
}

/// Figures that the report has no place of its own for.
void add_notes(const metrics::Summary& s, const System& system, report::ModelReport& out) {
  if (s.without_leaks)
    out.notes.push_back(fmt::format("without the {} rows that training may have seen: exact match {}", s.leaked,
                                    share_text(s.without_leaks->exact_match)));
  const auto cut = std::count_if(system.answers.begin(), system.answers.end(),
                                 [](const RowAnswer& a) { return !a.complete && !a.answer.empty(); });
  if (cut > 0) out.notes.push_back(fmt::format("{} answers were cut at the longest answer allowed", cut));
}

}  // namespace

void score_rows(System& system, const data::RowSet& set) {
  system.scores.clear();
  for (size_t i = 0; i < system.answers.size(); ++i) {
    const auto& row = set.rows[static_cast<size_t>(system.rows[i])];
    const metrics::ExpectedRow expected{row.id,   row.answer, row.intent, row.has_slots, row.slots,
                                        row.lang, row.domain, row.slice,  row.oos};
    system.scores.push_back(metrics::score_row(expected, system.answers[i].answer));
  }
}

void describe_quality(const System& system, const data::RowSet& set, const ScoreOptions& options,
                      report::ModelReport& out) {
  metrics::SummaryOptions summary_options;
  summary_options.bootstrap.seed = options.seed;
  summary_options.leaked_ids = options.leaked_ids;
  const metrics::Summary s = metrics::summarize(system.scores, summary_options);
  out.n = s.n;
  out.exact_match = interval(s.exact_match);
  out.string_match = interval(s.string_match);
  out.order_free_match = interval(s.order_free_match);
  out.valid_json = interval(s.valid_json);
  out.intent_accuracy = interval(s.intent_accuracy);
  out.slot_f1 = interval(s.slot_f1);
  out.macro_f1 = interval(s.macro_f1);
  for (const auto& [name, score] : s.fields) out.fields.emplace_back(name, score.value);
  for (const auto& [name, c] : s.per_intent) out.per_intent.emplace_back(name, intent_score(c));
  if (s.out_of_scope) out.out_of_scope = intent_score(*s.out_of_scope);
  if (s.out_of_scope) out.out_of_scope_auroc = out_of_scope_auroc(system);
  for (const auto& [name, p] : s.slices) out.slices.emplace_back(name, part(p));
  if (s.without_leaks) out.slices.emplace_back(kWithoutLeaks, part(*s.without_leaks));
  for (const auto& [name, p] : s.languages) out.languages.emplace_back(name, part(p));
  if (s.confusion) out.confusion = report::Confusion{s.confusion->expected, s.confusion->answered, s.confusion->counts};
  out.errors = worst_errors(system, set);
  add_notes(s, system, out);
}

std::optional<report::Against> compare(const System& system, const System& reference, const data::RowSet& set) {
  const metrics::Comparison c = metrics::compare(reference.name, reference.scores, system.scores);
  if (c.n_both == 0) return std::nullopt;
  std::unordered_map<std::string_view, size_t> ours, theirs;
  for (size_t i = 0; i < system.answers.size(); ++i) ours.emplace(system.answers[i].id, i);
  for (size_t i = 0; i < reference.answers.size(); ++i) theirs.emplace(reference.answers[i].id, i);
  report::Against out{c.reference, c.n_both, c.lost, c.gained, c.p, c.smallest_drop, {}};
  for (const auto& flip : c.flipped) {
    const size_t i = ours.at(flip.id);
    const auto& row = set.rows[static_cast<size_t>(system.rows[i])];
    out.flipped.push_back({row.id, row.text, row.answer, system.answers[i].answer,
                           reference.answers[theirs.at(flip.id)].answer,
                           flip.flip == metrics::Flip::Lost ? "lost" : "gained"});
  }
  return out;
}

}  // namespace slmi::eval
