// The study's run: artefacts, cells, table; see the header.
#include "slmi/study/study.h"

#include <algorithm>
#include <map>

#include "cell_store.h"
#include "roofs.h"
#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/ceilings/hardware.h"
#include "slmi/eval/describe.h"
#include "slmi/eval/environment.h"
#include "slmi/eval/worker.h"

namespace slmi::study {
namespace {

namespace fs = std::filesystem;

bool is_stop(const Error& e) {
  return e.kind() == ErrorKind::Interrupted || e.kind() == ErrorKind::Terminated;
}

class Study {
 public:
  explicit Study(const StudyOptions& options)
      : options_(options), models_(eval::assign_names(options.models)), cells_(plan(options)) {
    for (const auto& name : options_.hardware) ceilings::named_hardware(name);
    require(options_.make && options_.open, ErrorKind::Internal, "study: no way to make or open artefacts was given");
  }

  report::StudyReport run() {
    slmi::create_directories(options_.out / "artefacts");
    slmi::create_directories(options_.out / "cells");
    set_ = eval::read_source(options_.rows, "");
    for (const auto& model : models_) sources_.push_back(source_of(model));
    std::vector<CellResult> results;
    for (size_t i = 0; i < cells_.size(); ++i) {
      note(fmt::format("cell {} of {}: {}", i + 1, cells_.size(), cells_[i].id(name_of(cells_[i]))));
      results.push_back(result_of(cells_[i]));
    }
    report::StudyReport report = describe_study(results);
    report::write_study(report, options_.out);
    return report;
  }

 private:
  /// What a model's artefacts are made from.
  struct Source {
    Json key;             // of all files that it consists of
    bool random = false;  // weights that were never trained: answers say nothing
  };

  void note(const std::string& text) const {
    if (options_.note) options_.note(text);
  }
  const std::string& name_of(const Cell& cell) const { return models_[cell.model].name; }

  Source source_of(const eval::NamedPath& model) const {
    try {
      model::OpenOptions open;
      open.base = options_.base;
      const auto files = model::open_files(model.path, open);
      Source out;
      out.key = {{"model", files_key(files.path)}, {"base", files_key(files.base_path)}};
      if (!files.adapter_path.empty()) out.key["adapter"] = files_key(files.adapter_path);
      out.random = formats::weights_origin(*files.checkpoint, files.provenance) == "random";
      return out;
    } catch (const Error& e) {
      throw Error(e.kind(), fmt::format("model '{}': {}", model.name, e.what()));
    }
  }

  /// What another build made or measured is not this one's: the report names one commit.
  static Json program_key() {
    const report::Build build = eval::build();
    return {{"version", build.version}, {"commit", build.commit}};
  }

  fs::path artefact_path(const Cell& cell) const {
    const fs::path directory = options_.out / "artefacts" / name_of(cell);
    return directory / (cell.format.maker == Maker::Gguf ? cell.format.name + ".gguf" : cell.format.name);
  }

  Json artefact_key(const Cell& cell) const {
    return {{"program", program_key()},
            {"source", sources_[cell.model].key},
            {"format", cell.format.name},
            {"settings", cell.format.maker == Maker::Merge ? Json(nullptr) : options_.artefact_settings}};
  }

  /// Makes the cell's artefact unless it is there. Returns why it cannot be made, or "".
  std::string make_artefact(const Cell& cell) {
    const fs::path path = artefact_path(cell);
    if (const auto known = failed_.find(path); known != failed_.end()) return known->second;
    const fs::path stamp = path.string() + ".made.json";
    const Json key = artefact_key(cell);
    if (fs::exists(path) && stored_in(stamp, key, "made")) return "";
    note(fmt::format("making {}", path.string()));
    std::error_code error;
    // A GPTQ job that was stopped goes on where it was, if it was this one: it knows.
    if (cell.format.maker != Maker::Gptq || fs::exists(stamp)) remove_tree(path, error);
    fs::remove(stamp, error);
    slmi::create_directories(path.parent_path());
    try {
      options_.make({models_[cell.model], cell.format, path});
      store_in(stamp, key, "made", eval::utc_date());
      return "";
    } catch (const Error& e) {
      if (is_stop(e) || e.kind() == ErrorKind::Output) throw;
      return failed_[path] = e.what();
    } catch (const std::bad_alloc&) {
      return failed_[path] = "out of memory while it was made";
    }
  }

  /// Rows for a model whose answers say nothing: enough to time it.
  eval::RowSource rows_for(const Cell& cell) const {
    eval::RowSource rows = options_.rows;
    if (!sources_[cell.model].random) return rows;
    int64_t enough = std::max<int64_t>(options_.measure.latency_rows, 1);
    for (const int64_t batch : options_.measure.batch_sizes) enough = std::max(enough, batch);
    rows.limit = rows.limit == 0 ? enough : std::min(rows.limit, enough);
    return rows;
  }

  CellResult result_of(const Cell& cell) {
    const std::string id = cell.id(name_of(cell));
    const fs::path file = options_.out / "cells" / (id + ".json");
    Json key = {{"artefact", artefact_key(cell)}, {"device", cell.device}, {"data", Json::array()}};
    for (const auto& data : set_.files) key["data"].push_back(data.sha256);
    CellResult result;
    eval::WorkerJob job;
    try {
      job = {id,
             artefact_path(cell),
             rows_for(cell),
             options_.open(cell.format, cell.device),
             options_.measure,
             cell.threads,
             {}};
      key["job"] = eval::to_json(job);
    } catch (const Error& e) {
      result.problem = e.what();  // this machine has no such device
    }
    if (auto known = read_cell(file, key); known && (known->problem.empty() || !options_.retry)) return *known;
    if (result.problem.empty()) measure(cell, job, result);
    if (!result.problem.empty()) note("  could not run: " + result.problem);
    write_cell(file, key, result);
    return result;
  }

  void measure(const Cell& cell, const eval::WorkerJob& job, CellResult& result) {
    result.problem = make_artefact(cell);
    if (!result.problem.empty()) return;
    try {
      result.run = eval::run_in_process(job, options_.worker_command, options_.out, options_.signal);
    } catch (const Error& e) {
      if (is_stop(e)) throw;
      result.problem = e.what();
    }
  }

  report::StudyReport describe_study(const std::vector<CellResult>& results) {
    report::StudyReport report;
    report.command = options_.command_line;
    report.date = eval::utc_date();
    report.machine = eval::machine();
    report.build = eval::build();
    for (const auto& file : set_.files) report.data.push_back({file.path, file.sha256, file.num_rows, "test"});
    if (options_.price_per_hour > 0) report.price_per_hour = options_.price_per_hour;
    for (size_t i = 0; i < cells_.size(); ++i) {
      report.cells.push_back(describe_cell(i, results, report));
      if (results[i].run && !results[i].run->facts.gpu.empty()) report.machine.gpu = results[i].run->facts.gpu;
    }
    if (options_.rows.limit > 0)
      report.notes.push_back(fmt::format("the first {} rows of each file (--limit)", options_.rows.limit));
    return report;
  }

  report::StudyCell describe_cell(size_t i, const std::vector<CellResult>& results, report::StudyReport& report) {
    const Cell& cell = cells_[i];
    report::StudyCell out;
    out.model = name_of(cell);
    out.format = cell.format.name;
    out.device = cell.device;
    out.threads = cell.threads;
    out.problem = results[i].problem;
    if (!results[i].run) return out;
    const eval::ModelRun& run = *results[i].run;
    out.run = eval::describe(run, set_, options_.seed);
    const int64_t reference = reference_of(cells_, i);
    if (reference >= 0 && reference != static_cast<int64_t>(i) && results[static_cast<size_t>(reference)].run)
      out.run->against = eval::compare(run, *results[static_cast<size_t>(reference)].run, set_);
    out.file_bytes = weight_file_bytes(artefact_path(cell));
    out.prompt_tokens = run.speed.prompt_tokens;
    out.answer_tokens = run.speed.answer_tokens;
    double best = 0.0;
    for (const auto& [batch, rate] : run.speed.requests_per_s) best = std::max(best, rate);
    if (best > 0.0 && options_.price_per_hour > 0) out.cost_per_million = options_.price_per_hour / 3600 / best * 1e6;
    const RequestWork work = work_of(artefact_path(cell), run);
    out.roof = roof_of(work, ceilings_for(cell, report));
    const bool first_of_format = std::none_of(report.predictions.begin(), report.predictions.end(), [&](const auto& p) {
      return p.model == out.model && p.format == out.format;
    });
    if (first_of_format)
      for (auto& p : predictions_of(out.model, out.format, work, *out.file_bytes, options_.hardware))
        report.predictions.push_back(std::move(p));
    return out;
  }

  const ceilings::Ceilings& ceilings_for(const Cell& cell, report::StudyReport& report) {
    const auto key = std::pair(cell.device, cell.threads);
    if (const auto known = ceilings_.find(key); known != ceilings_.end()) return known->second;
    note(fmt::format("measuring the ceilings of {} on {} threads", cell.device, cell.threads));
    const fs::path file = options_.out / "cells" / fmt::format("ceilings-{}-{}.json", cell.device, cell.threads);
    const auto& measured =
        ceilings_.emplace(key, ceilings_of(cell.device, cell.threads, file, program_key())).first->second;
    report.ceilings.push_back(describe(measured, cell.device, cell.threads));
    return measured;
  }

  const StudyOptions& options_;
  std::vector<eval::NamedPath> models_;
  std::vector<Cell> cells_;
  std::vector<Source> sources_;  // of models_
  data::RowSet set_;
  std::map<fs::path, std::string> failed_;  // artefacts that could not be made, and why
  std::map<std::pair<std::string, int64_t>, ceilings::Ceilings> ceilings_;
};

}  // namespace

report::StudyReport run_study(const StudyOptions& options) {
  return Study(options).run();
}

}  // namespace slmi::study
