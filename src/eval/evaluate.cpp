// The whole evaluation; see the header.
#include "slmi/eval/evaluate.h"

#include <algorithm>
#include <fstream>
#include <unordered_set>

#include "baselines.h"
#include "over_ranks.h"
#include "score.h"
#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/base/suggest.h"
#include "slmi/comm/work.h"
#include "slmi/eval/environment.h"
#include "slmi/eval/predictions.h"
#include "slmi/eval/worker.h"
#include "slmi/report/writers.h"
#include "speed.h"
#include "system.h"

namespace slmi::eval {
namespace {

namespace fs = std::filesystem;

/// "models/base.gguf" -> "base"; "runs/first/" -> "first".
std::string name_of_path(const fs::path& path) {
  fs::path clean = path.lexically_normal();
  if (clean.filename().empty()) clean = clean.parent_path();
  const std::string name = clean.extension() == ".gguf" ? clean.stem().string() : clean.filename().string();
  return name.empty() || name == "." || name == ".." ? "model" : name;
}

/// Ids in the first column of a TSV whose first line is a heading.
std::unordered_set<std::string> read_leaks(const fs::path& file) {
  std::ifstream in(file);
  require(in.good(), ErrorKind::Input, "{}: cannot be read", file.string());
  std::unordered_set<std::string> ids;
  int64_t number = 0;
  for (std::string line; std::getline(in, line);)
    if (++number > 1 && !line.empty()) ids.insert(line.substr(0, line.find_first_of("\t\r")));
  return ids;
}

std::unordered_set<std::string> leaked_ids(const EvaluateOptions& options) {
  if (!options.leaks.empty()) return read_leaks(options.leaks);
  std::unordered_set<std::string> ids;
  for (const auto& file : options.rows.files) {
    const fs::path beside = file.parent_path() / "leaks.tsv";
    std::error_code error;
    if (fs::is_regular_file(beside, error)) ids.merge(read_leaks(beside));
  }
  return ids;
}

class Evaluation {
 public:
  Evaluation(const EvaluateOptions& options, comm::Communicator& ranks)
      : options_(options), ranks_(ranks), models_(assign_names(options.models, options.predictions)) {}

  report::EvalReport run() {
    report::EvalReport report;
    comm::on_first(ranks_, options_.signal, [&](auto) { prepare(); });
    measure_models();
    comm::on_first(ranks_, options_.signal, [&](auto) { report = write(); });
    return report;
  }

 private:
  /// All that can fail before an hour of measuring, and the systems that need none.
  void prepare() {
    require(!models_.empty() || !options_.predictions.empty(), ErrorKind::Usage,
            "nothing to evaluate: give --model [NAME=]MODEL or --predictions NAME=FILE");
    slmi::create_directories(options_.out);
    set_ = read_source(options_.rows, "");
    for (const auto& model : models_) check_model(model);
    check_names();
    for (const auto& item : options_.predictions) add_predictions(item);
    add_baselines();
  }

  void note(const std::string& text) const {
    if (options_.note) options_.note(text);
  }

  /// That the path is a model.
  static void check_model(const NamedPath& model) {
    try {
      model::classify(model.path);
    } catch (const Error& e) {
      throw Error(e.kind(), fmt::format("model '{}': {}", model.name, e.what()));
    }
  }

  void add(System system) {
    match_rows(system, set_);
    systems_.push_back(std::move(system));
  }

  void add_predictions(const NamedPath& item) {
    require(!item.name.empty(), ErrorKind::Usage, "--predictions {}: give the system a name: NAME={}",
            item.path.string(), item.path.string());
    Predictions read = read_predictions(item.path, item.name, set_);
    System system;
    system.name = item.name;
    system.kind = SystemKind::Predictions;
    system.description = item.path.string();
    const size_t answered = read.answers.size();
    system.answers = std::move(read.answers);
    if (answered < set_.rows.size())
      system.notes.push_back(fmt::format("answers {} of {} rows; scored on these", answered, set_.rows.size()));
    if (read.unknown > 0)
      system.notes.push_back(fmt::format("{} more answers are of rows that are not evaluated here", read.unknown));
    add(std::move(system));
  }

  void check_names() {
    std::vector<std::string> names;
    for (const auto& model : models_) names.push_back(model.name);
    for (const auto& item : options_.predictions) names.push_back(item.name);
    reference_ = options_.reference.empty() ? names.front() : options_.reference;
    if (options_.baselines == Baselines::Auto) names.insert(names.end(), {kBagOfWordsName, kRulesName});
    const auto known = [&](const std::string& name) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    require(known(reference_), ErrorKind::Usage, "--reference {}: no such system here; there are {}", reference_,
            fmt::join(names, ", "));
    for (const auto& threshold : options_.thresholds)
      require(threshold.system.empty() || known(threshold.system), ErrorKind::Usage,
              "--fail-under {}:{}: no such system here; there are {}", threshold.system, threshold.metric,
              fmt::join(names, ", "));
  }

  /// Rows for the plain baseline: those given, else what the first run directory was trained on.
  std::vector<fs::path> train_files() {
    if (!options_.train_data.empty()) return options_.train_data;
    for (const auto& model : models_) {
      if (model::classify(model.path) != model::PathKind::Run) continue;
      const auto files = model::training_rows(model.path).files;
      const auto missing =
          std::find_if(files.begin(), files.end(), [](const fs::path& file) { return !fs::exists(file); });
      if (!files.empty() && missing == files.end()) return files;
      if (!files.empty())
        notes_.push_back(fmt::format("no plain baseline: {}, which {} was trained on, is not here", missing->string(),
                                     model.path.string()));
    }
    return {};
  }

  void add_baselines() {
    if (options_.baselines == Baselines::None) return;
    const auto has_name = [&](const std::string& name) {
      return std::any_of(systems_.begin(), systems_.end(), [&](const System& s) { return s.name == name; }) ||
             std::any_of(models_.begin(), models_.end(), [&](const NamedPath& m) { return m.name == name; });
    };
    const auto files = train_files();
    if (!files.empty() && !has_name(kBagOfWordsName)) {
      note("training the plain baseline");
      RowSource source = options_.rows;
      source.files = files;
      source.limit = 0;
      const data::RowSet train = read_source(source, "");
      for (const auto& file : train.files) train_files_.push_back({file.path, file.sha256, file.num_rows, "train"});
      if (auto system = bag_of_words(train, set_)) add(std::move(*system));
    }
    if (is_shop(set_) && !has_name(kRulesName)) add(rules(set_));
  }

  void measure_models() {
    size_t at = 0;  // models come before the other systems, in the order in which they were given
    for (const auto& model : models_) {
      note(fmt::format("model {} ({})", model.name, model.path.string()));
      const WorkerJob job{model.name, model.path, options_.rows, options_.open, options_.measure, options_.threads, {}};
      ModelRun run = ranks_.size() == 1 ? run_in_process(job, options_.worker_command, options_.out, options_.signal)
                                        : run_over_ranks(job, options_.worker_command, options_.signal, ranks_);
      if (!ranks_.first()) continue;
      System system;
      system.name = model.name;
      system.description = model.path.string();
      system.run = std::move(run);
      system.answers = with_too_long(std::move(system.run->answers), set_);
      system.notes = system.run->notes;
      match_rows(system, set_);
      systems_.insert(systems_.begin() + static_cast<std::ptrdiff_t>(at++), std::move(system));
    }
  }

  report::EvalReport write() {
    report::EvalReport report = describe_run();
    const System* reference = nullptr;
    for (const auto& system : systems_)
      if (system.name == reference_) reference = &system;
    require(reference != nullptr, ErrorKind::Usage, "--reference {}: that baseline does not apply to these rows",
            reference_);
    const ScoreOptions score_options{static_cast<uint64_t>(options_.seed), leaked_ids(options_)};
    for (auto& system : systems_) score_rows(system, set_);
    for (const auto& system : systems_) {
      report::ModelReport model = describe_system(system);
      describe_quality(system, set_, score_options, model);
      if (&system != reference) model.against = compare(system, *reference, set_);
      report.models.push_back(std::move(model));
    }
    std::vector<Scored> scored;
    for (const auto& system : systems_) {
      Scored lines{system.name, system.answers, system.rows, {}};
      for (const auto& row : system.scores) lines.match.push_back(row.exact_match);
      scored.push_back(std::move(lines));
    }
    write_predictions(options_.out / "predictions.jsonl", set_, scored);
    report::write_report(report, options_.out);
    return report;
  }

  report::EvalReport describe_run() {
    report::EvalReport report;
    report.command = options_.command_line;
    report.date = utc_date();
    report.machine = machine();
    report.build = build();
    report.seed = options_.seed;
    report.threads = options_.threads;
    report.device = options_.open.load.device.str();
    if (!models_.empty()) report.engine = options_.open.load.device.is_cpu() ? "slmi cpu" : "slmi cuda";
    for (const auto& system : systems_)
      if (system.run && !system.run->facts.gpu.empty()) report.machine.gpu = system.run->facts.gpu;
    std::vector<int64_t> taken(set_.files.size(), 0);
    for (const auto& row : set_.rows) ++taken[static_cast<size_t>(row.file)];
    for (size_t i = 0; i < set_.files.size(); ++i) {
      report.data.push_back({set_.files[i].path, set_.files[i].sha256, taken[i], "test"});
      if (taken[i] < set_.files[i].num_rows)
        report.notes.push_back(
            fmt::format("{}: the first {} of {} rows (--limit)", set_.files[i].path, taken[i], set_.files[i].num_rows));
    }
    for (const auto& file : train_files_) report.data.push_back(file);
    for (const auto& model : models_) {
      if (model::classify(model.path) != model::PathKind::Run) continue;
      auto curve = training_curve(model.name, model.path);
      if (!curve.step.empty() || !curve.val_step.empty()) report.training.push_back(std::move(curve));
    }
    report.notes.insert(report.notes.end(), notes_.begin(), notes_.end());
    return report;
  }

  report::ModelReport describe_system(const System& system) const {
    report::ModelReport out;
    out.name = system.name;
    out.model = system.description;
    out.weights = report::Weights::None;
    out.engine = system.kind == SystemKind::Predictions ? "predictions"
                 : system.kind == SystemKind::Baseline  ? "baseline"
                                                        : "slmi";
    out.notes = system.notes;
    if (system.run) describe_model(*system.run, out);
    return out;
  }

  const EvaluateOptions& options_;
  comm::Communicator& ranks_;
  std::vector<NamedPath> models_;
  data::RowSet set_;
  std::vector<System> systems_;
  std::vector<report::DataFile> train_files_;
  std::vector<std::string> notes_;
  std::string reference_;
};

}  // namespace

std::vector<NamedPath> assign_names(const std::vector<NamedPath>& models, const std::vector<NamedPath>& others) {
  std::unordered_set<std::string> taken;
  for (const auto* list : {&models, &others})
    for (const auto& item : *list)
      require(item.name.empty() || taken.insert(item.name).second, ErrorKind::Usage, "the name '{}' is given twice",
              item.name);
  std::vector<NamedPath> out = models;
  for (auto& item : out) {
    if (!item.name.empty()) continue;
    const std::string stem = name_of_path(item.path);
    item.name = stem;
    for (int i = 2; !taken.insert(item.name).second; ++i) item.name = fmt::format("{}-{}", stem, i);
  }
  return out;
}

report::EvalReport evaluate(const EvaluateOptions& options, comm::Communicator& ranks) {
  return Evaluation(options, ranks).run();
}

}  // namespace slmi::eval
