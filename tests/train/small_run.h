// A training run of a second: the tiny tied model with PEFT's adapter on a few hand-made rows.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "../base/temporary_directory.h"
#include "../model/reference.h"
#include "slmi/base/mapped_file.h"
#include "slmi/formats/peft_adapter.h"
#include "slmi/train/trainer.h"

namespace slmi::train::testing {

namespace fs = std::filesystem;

/// 20 rows of 23 to 33 tokens: two instructions of 20 tokens shared by eight rows each, and four rows of their own.
inline data::EncodedDataset small_rows() {
  std::vector<model::testing::TestRow> rows;
  for (uint64_t i = 0; i < 20; ++i) {
    const bool shares = i % 5 != 4;
    auto ids = model::testing::tokens(20, 96, shares ? 1 + i % 2 : 300 + i);
    const auto own = model::testing::tokens(3 + static_cast<int64_t>(i * 7 % 11), 96, 500 + i);
    ids.insert(ids.end(), own.begin(), own.end());
    rows.push_back({ids, 21, shares ? 20 : 0});
  }
  return model::testing::dataset(rows);
}

/// Fifteen steps of four rows in two or more micro-batches, dropout 0.05, a checkpoint every fourth step.
inline TrainConfig small_config() {
  TrainConfig config;
  config.lora.dropout = 0.05;
  config.lr = 1e-2;
  config.epochs = 3;
  config.batch_size = 4;
  config.micro_tokens = 40;
  config.max_seq_len = 64;
  config.checkpoint_every = 4;
  config.keep_checkpoints = 2;
  config.seed = 7;
  config.compute = ComputeChoice::F32;
  return config;
}

/// How the tiny tied model is loaded for this device and type of products.
inline model::LoadOptions load_options(at::Device device, ops::Compute compute) {
  model::LoadOptions out;
  out.device = device;
  out.policy.compute = compute;
  return out;
}

/// What a process would hold: model, adapter as at the start, rows. A new one stands for a new process.
struct Process {
  TrainConfig config = small_config();
  data::EncodedDataset rows = small_rows();
  std::shared_ptr<model::Llama> llama;
  model::Lora lora;
  Hooks hooks;
  std::vector<StepRecord> records;

  explicit Process(const model::LoadOptions& load = {})
      : llama(model::testing::load(model::testing::golden_dir() + "/tiny-tied", load)),
        lora(model::Lora::from_adapter(llama->config(),
                                       formats::PeftAdapter::open(model::testing::golden_dir() + "/tiny-tied-adapter"),
                                       load.device)) {
    start();
  }
  /// Of another model, with a new adapter of rank 16 on all projections.
  Process(const fs::path& base, const model::LoadOptions& load)
      : llama(model::testing::load(base, load)),
        lora(llama->config(), {16, 32.0, 0.0, false, model::all_projections()}, load.device, 7) {
    start();
  }
  void start() {
    lora.enable_training();
    llama->attach(lora);
    hooks.save_adapter = [this](const fs::path& directory) { lora.save(directory, "tiny-tied"); };
    hooks.on_step = [this](const StepRecord& r, int64_t) { records.push_back(r); };
  }
  TrainResult train_into(const fs::path& run) {
    const auto alone = comm::single_process();
    return train(*llama, lora, rows, config, run, hooks, *alone);
  }
};

inline std::string bytes_of(const fs::path& path) {
  const auto file = MappedFile::open(path);
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

/// All files of a run that must not depend on interruptions: metrics, adapter, newest checkpoint.
inline std::map<std::string, std::string> lasting_files(const fs::path& run) {
  std::map<std::string, std::string> out = {{"metrics.jsonl", bytes_of(run / "metrics.jsonl")}};
  std::vector<fs::path> directories = {run / "adapter"};
  if (const auto all = list_checkpoints(run); !all.empty()) directories.push_back(all.back());
  for (const auto& directory : directories)
    for (const auto& entry : fs::directory_iterator(directory))
      out[fs::relative(entry.path(), run).string()] = bytes_of(entry.path());
  return out;
}

/// Names of the files that differ, for a message that can be read.
inline std::vector<std::string> differences(const fs::path& got, const fs::path& want) {
  const auto a = lasting_files(got), b = lasting_files(want);
  std::vector<std::string> out;
  for (const auto& [name, bytes] : b)
    if (!a.contains(name) || a.at(name) != bytes) out.push_back(name);
  for (const auto& [name, bytes] : a)
    if (!b.contains(name)) out.push_back("only here: " + name);
  return out;
}

}  // namespace slmi::train::testing
