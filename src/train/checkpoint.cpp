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

/// What state.safetensors holds, by name.
std::vector<std::pair<const char*, at::Tensor>> state_tensors(const at::Tensor& values, const ops::Moments& moments) {
  std::vector<std::pair<const char*, at::Tensor>> out = {
      {"adapter", values}, {"adam_m", moments.m}, {"adam_v", moments.v}};
  if (moments.bits == ops::MomentBits::F32) return out;
  out.emplace_back("adam_m_absmax", moments.m_absmax);
  out.emplace_back("adam_v_absmax", moments.v_absmax);
  return out;
}

formats::Dtype dtype_of(const at::Tensor& t) {
  return t.scalar_type() == at::kByte ? formats::Dtype::U8 : formats::Dtype::F32;
}

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

std::string to_text(const RunState& state) {
  return to_json(state).dump();
}

RunState to_run_state(const std::string& text, const std::string& source) {
  return from_json(Json::parse(text), source);
}

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

void save_checkpoint(const fs::path& run, const RunState& state, const at::Tensor& values, const ops::Moments& moments,
                     int64_t keep) {
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
    for (const auto& [name, t] : state_tensors(values, moments)) {
      hold.push_back(t.to(at::kCPU).contiguous());
      const auto* bytes = static_cast<const std::byte*>(hold.back().const_data_ptr());
      tensors.push_back({name, dtype_of(t), {t.numel()}, std::span(bytes, hold.back().nbytes())});
    }
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

std::optional<RunState> load_checkpoint(const fs::path& run, const at::Tensor& values, const ops::Moments& moments) {
  const auto all = list_checkpoints(run);
  if (all.empty()) return std::nullopt;
  const fs::path& newest = all.back();
  const fs::path state_file = newest / "state.json";
  const RunState state = from_json(read_json_file(state_file.string()), state_file.string());
  const auto file = formats::SafetensorsFile::open(newest / "state.safetensors");
  for (const auto& [name, target] : state_tensors(values, moments)) {
    const auto& t = file.tensor(name);
    require(t.dtype == dtype_of(target) && t.shape == formats::Shape{target.numel()}, ErrorKind::Input,
            "{}: '{}' is {} {}, this run's has {} values of {}; was its configuration changed?", file.source(), name,
            formats::dtype_name(t.dtype), formats::shape_text(t.shape), target.numel(),
            formats::dtype_name(dtype_of(target)));
    const at::Tensor host = at::empty(target.sizes(), target.options().device(at::kCPU));
    std::memcpy(host.mutable_data_ptr(), t.bytes.data(), t.bytes.size());
    target.copy_(host);
  }
  return state;
}

}  // namespace slmi::train
