// Device, type of compute and threads; see the header.
#include "runtime.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "slmi/base/error.h"
#include "slmi/base/parallel.h"
#include "slmi/comm/launch.h"
#include "slmi/kernels/cpu/simd.h"
#include "slmi/quant/weight_format.h"

namespace slmi::cli {
namespace {

/// Whether the base's blocks are held in a form that a kernel of ours unpacks on a GPU; one matrix stands for all.
bool fast_to_unpack(const formats::Checkpoint& base, model::BaseFormat format) {
  if (format != model::BaseFormat::Stored) return format == model::BaseFormat::NF4;
  const auto stored = base.tensor("model.layers.0.mlp.gate_proj.weight").format;
  return quant::is_quantized(stored) && stored != quant::WeightFormat::GPTQ;
}

}  // namespace

std::string out_of_memory_text(const c10::OutOfMemoryError& error) {
  std::string what = error.what_without_backtrace();
  what.erase(std::min(what.size(), what.find(" Of the allocated memory")));
  while (what.ends_with('.')) what.pop_back();
  return what;
}

at::Device choose_device(const std::string& name) {
  const bool cuda = at::hasCUDA();
  if (name == "cpu" || (name == "auto" && !cuda)) return at::kCPU;
  require(cuda, ErrorKind::Device,
          "--device cuda: no GPU can be used here (no CUDA device, no driver, or a build without CUDA); slmi doctor "
          "says which");
  const int64_t number = comm::gpu_of_rank(comm::read_launch(comm::environment), ops::gpu_count());
  const at::Device device(at::kCUDA, static_cast<c10::DeviceIndex>(number));
  ops::make_current(device);
  constexpr int kLeast = 75;  // the oldest that CUDA 13 compiles for
  const int found = ops::compute_capability(device);
  if (name == "auto" && found < kLeast) return at::kCPU;
  require(found >= kLeast, ErrorKind::Device,
          "--device cuda: this GPU is sm_{}; the oldest that can be used is sm_{} (Turing); take --device cpu", found,
          kLeast);
  return device;
}

ops::Compute choose_compute(train::ComputeChoice choice, at::Device device) {
  using train::ComputeChoice;
  constexpr int kBf16 = 80;  // Ampere is the first with bf16 products
  switch (choice) {
    case ComputeChoice::F32:
      return ops::Compute::F32;
    case ComputeChoice::BF16:
      require(device.is_cpu() || ops::compute_capability(device) >= kBf16, ErrorKind::Device,
              "--compute bf16: this GPU is sm_{} and has no bf16 products (sm_{} is the first); take --compute f16",
              ops::compute_capability(device), kBf16);
      return ops::Compute::BF16;
    case ComputeChoice::F16:
      require(!device.is_cpu(), ErrorKind::Usage, "--compute f16: CPUs are slow in it; use --compute bf16 or f32");
      return ops::Compute::F16;
    case ComputeChoice::Auto:
      break;
  }
  if (device.is_cpu()) return kernels::cpu::simd().bf16 ? ops::Compute::BF16 : ops::Compute::F32;
  return ops::compute_capability(device) >= kBf16 ? ops::Compute::BF16 : ops::Compute::F16;
}

int choose_threads(int64_t threads) {
  const int n = threads > 0 ? static_cast<int>(threads) : available_processors();
  set_num_threads(n);
  at::set_num_threads(n);
  return n;
}

model::OpenOptions open_options(const ModelFlags& flags) {
  model::OpenOptions options;
  options.base = flags.base;
  options.prompt_template = flags.prompt_template;
  options.system = flags.system;
  options.tokenizer = flags.tokenizer;
  options.load.base_format = flags.base_format;
  options.load.device = choose_device(flags.device);
  options.load.policy.compute = choose_compute(flags.compute, options.load.device);
  options.load.policy.kv = ops::scalar_type(options.load.policy.compute);
  options.load.residency = options.load.device.is_cpu() ? ops::Residency::Resident : ops::Residency::Transient;
  return options;
}

model::LoadOptions training_load_options(const formats::Checkpoint& base, model::BaseFormat format,
                                         ops::Compute compute, at::Device device) {
  model::LoadOptions load;
  load.base_format = format;
  load.device = device;
  load.policy.compute = compute;
  load.policy.kv = ops::scalar_type(compute);
  const bool unpacked_each_time = !device.is_cpu() && fast_to_unpack(base, format);
  load.residency = unpacked_each_time ? ops::Residency::Transient : ops::Residency::Resident;
  return load;
}

std::string shell_quoted(const std::string& argument) {
  constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./=,:@+%";
  if (!argument.empty() && argument.find_first_not_of(kPlain) == std::string::npos) return argument;
  std::string out = "'";
  for (const char c : argument) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace slmi::cli
