// A run described for a report; see the header.
#include "slmi/eval/describe.h"

#include "score.h"
#include "speed.h"
#include "system.h"

namespace slmi::eval {
namespace {

System scored(const ModelRun& run, const data::RowSet& set) {
  System system;
  system.name = run.name;
  system.description = run.facts.path;
  system.answers = with_too_long(run.answers, set);
  system.notes = run.notes;
  match_rows(system, set);
  score_rows(system, set);
  return system;
}

}  // namespace

report::ModelReport describe(const ModelRun& run, const data::RowSet& set, uint64_t seed) {
  const System system = scored(run, set);
  report::ModelReport out;
  out.name = run.name;
  out.model = run.facts.path;
  out.notes = run.notes;
  describe_model(run, out);
  describe_quality(system, set, {seed, {}}, out);
  return out;
}

std::optional<report::Against> compare(const ModelRun& run, const ModelRun& reference, const data::RowSet& set) {
  return compare(scored(run, set), scored(reference, set), set);
}

}  // namespace slmi::eval
