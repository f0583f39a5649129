// Checkpoints; see the header.
#include "slmi/train/checkpoint.h"

#include <ATen/ATen.h>
#include <algorithm>
#include <charconv>
#include <cstring>

#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/base/json.h"
#include "slmi/formats/safetensors.h"

namespace slmi::train {
namespace {

namespace fs = std::filesystem;

fs::path directory_of(const fs::path& run) {
  return run / "checkpoints";
}

Json to_json(const RunState& s) {
  Json out = {{"schema", 1},
              {"step", s.step},
              {"metrics_bytes", s.metrics_bytes},
              {"best_exact_match", s.best_exact_match},
              {"best_loss", s.best_loss},
              {"best_step", s.best_step},
              {"validations_since_best", s.validations_since_best},
              {"finished", s.finished}};
  if (s.loss_scale)
    out["loss_scale"] = {{"scale", s.loss_scale->scale},
                         {"good_steps", s.loss_scale->good_steps},
                         {"skipped_steps", s.loss_scale->skipped_steps}};
  return out;
}

RunState from_json(const Json& j, const std::string& source) {
  try {
    RunState s;
    s.step = j.at("step");
    s.metrics_bytes = j.at("metrics_bytes");
    s.best_exact_match = j.at("best_exact_match");
    s.best_loss = j.at("best_loss");
    s.best_step = j.at("best_step");
    s.validations_since_best = j.at("validations_since_best");
    s.finished = j.at("finished");
    if (const auto found = j.find("loss_scale"); found != j.end())
      s.loss_scale = ops::LossScale{.scale = found->at("scale"),
                                    .good_steps = found->at("good_steps"),
                                    .skipped_steps = found->at("skipped_steps")};
    return s;
  } catch (const Json::exception& e) {
    fail(ErrorKind::Input, "{}: {}; remove this checkpoint to resume from an older one", source, e.what());
  }
}

/// Of "step-NNNNNN", or of "step-NNNNNN.new", which goes before the one that it was about to replace.
struct CheckpointName {
  int64_t step = 0;
  bool fresh = false;
  auto operator<=>(const CheckpointName&) const = default;
};

/// Absent for other names, those of unfinished checkpoints among them.
std::optional<CheckpointName> parse_name(std::string_view name) {
  CheckpointName out;
  if (name.ends_with(kFreshSuffix)) {
    out.fresh = true;
    name.remove_suffix(kFreshSuffix.size());
  }
  if (!name.starts_with("step-")) return std::nullopt;
  name.remove_prefix(5);
  const auto [end, code] = std::from_chars(name.data(), name.data() + name.size(), out.step);
  if (code != std::errc() || end != name.data() + name.size() || out.step < 0) return std::nullopt;
  return out;
}

}  // namespace

std::vector<fs::path> list_checkpoints(const fs::path& run) {
  std::vector<std::pair<CheckpointName, fs::path>> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory_of(run), error))
    if (const auto name = parse_name(entry.path().filename().string())) found.emplace_back(*name, entry.path());
  std::sort(found.begin(), found.end());
  std::vector<fs::path> out;
  for (auto& [name, path] : found) out.push_back(std::move(path));
  return out;
}

void save_checkpoint(const fs::path& run, const RunState& state, const at::Tensor& values, const at::Tensor& m,
                     const at::Tensor& v, int64_t keep) {
  const fs::path parent = directory_of(run);
  slmi::create_directories(parent);
  const fs::path target = parent / fmt::format("step-{:06d}", state.step);
  const fs::path temporary = parent / fmt::format("step-{:06d}.tmp", state.step);
  std::error_code ignored;
  remove_tree(temporary, ignored);  // left by a run that was killed here
  slmi::create_directories(temporary);
  try {
    std::vector<at::Tensor> hold;
    std::vector<formats::OutputTensor> tensors;
    const auto add = [&](const char* name, const at::Tensor& t) {
      hold.push_back(t.to(at::kCPU).contiguous());
      tensors.push_back({name,
                         formats::Dtype::F32,
                         {t.numel()},
                         std::as_bytes(std::span(hold.back().data_ptr<float>(), static_cast<size_t>(t.numel())))});
    };
    add("adapter", values);
    add("adam_m", m);
    add("adam_v", v);
    formats::write_safetensors(temporary / "state.safetensors", tensors);
    write_file_atomically(temporary / "state.json", to_json(state).dump(1) + "\n");
    sync_directory(temporary);
    replace_directory(temporary, target);  // a finished run rewrites its last checkpoint
  } catch (...) {
    remove_tree(temporary, ignored);
    throw;
  }
  auto all = list_checkpoints(run);
  for (size_t i = 0; i + static_cast<size_t>(keep) < all.size(); ++i) remove_tree(all[i], ignored);
}

std::optional<RunState> load_checkpoint(const fs::path& run, const at::Tensor& values, const at::Tensor& m,
                                        const at::Tensor& v) {
  const auto all = list_checkpoints(run);
  if (all.empty()) return std::nullopt;
  const fs::path& newest = all.back();
  const fs::path state_file = newest / "state.json";
  const RunState state = from_json(read_json_file(state_file.string()), state_file.string());
  const auto file = formats::SafetensorsFile::open(newest / "state.safetensors");
  const auto take = [&](const char* name, const at::Tensor& target) {
    const auto& t = file.tensor(name);
    require(t.dtype == formats::Dtype::F32 && t.shape == formats::Shape{target.numel()}, ErrorKind::Input,
            "{}: '{}' is {} {}, this run's adapter has {} values; was its configuration changed?", file.source(), name,
            formats::dtype_name(t.dtype), formats::shape_text(t.shape), target.numel());
    const at::Tensor host = at::empty({target.numel()}, at::kFloat);
    std::memcpy(host.data_ptr<float>(), t.bytes.data(), t.bytes.size());
    target.copy_(host);
  };
  take("adapter", values);
  take("adam_m", m);
  take("adam_v", v);
  return state;
}

}  // namespace slmi::train
