// The checks of slmi doctor; see the header.
#include "doctor_checks.h"

#include <ATen/ATen.h>
#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "gpu_driver.h"
#include "slmi/base/error.h"
#include "slmi/base/machine.h"
#include "slmi/base/parallel.h"
#include "slmi/base/progress.h"
#include "slmi/base/version.h"
#include "slmi/ceilings/probe.h"
#include "slmi/formats/checkpoint.h"
#include "slmi/kernels/cpu/simd.h"

namespace slmi::cli {
namespace {

namespace fs = std::filesystem;
using State = Finding::State;

constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr const char* kQuickstartBase = ".cache/SmolLM2-135M-Instruct.Q4_1.gguf";

/// A number alone in a file; nothing for "max" or no such file.
std::optional<uint64_t> number_in(const char* path) {
  std::ifstream file(path);
  uint64_t value = 0;
  return file >> value ? std::optional(value) : std::nullopt;
}

/// Bytes that this process may still take: what the kernel calls available, less if a cgroup allows less.
uint64_t available_memory() {
  uint64_t available = std::strtoull(value_in_file("/proc/meminfo", "MemAvailable", ':').c_str(), nullptr, 10) * 1024;
  struct Cgroup {
    const char *limit, *usage;
  };
  for (const auto& [limit, usage] :
       {Cgroup{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        Cgroup{"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"}}) {
    const auto most = number_in(limit), used = number_in(usage);
    if (most && used) available = std::min(available, *most > *used ? *most - *used : 0);
  }
  return available;
}

Finding check_cpu() {
  const std::string model = processor_name();
  const int usable = available_processors();
  const auto all = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  std::string text =
      fmt::format("{}, {} processor{}", model.empty() ? "unknown model" : model, usable, usable == 1 ? "" : "s");
  if (all > usable) text += fmt::format(" for this process (affinity or cgroup) of {}", all);
  return {State::Ok, "CPU", text, ""};
}

Finding check_simd() {
  const auto& used = kernels::cpu::simd();
  const auto found = kernels::cpu::detect_simd();
  Finding out{State::Ok, "SIMD", kernels::cpu::name(used), ""};
  if (!(used == found)) {
    out = {State::Note, "SIMD", fmt::format("{} of {}", out.text, kernels::cpu::name(found)),
           "SLMI_FORCE_SIMD holds it back; unset it for full speed"};
  } else if (used.level == kernels::cpu::SimdLevel::Scalar) {
    out.state = State::Note;
    out.remedy = "this CPU has no AVX2: everything works, several times slower";
  } else if (!used.bf16) {
    out.text += "; no bf16 products: --compute auto takes f32";
  }
  return out;
}

Finding check_memory(uint64_t available) {
  Finding out{State::Ok, "memory", fmt::format("{} available", format_bytes(available)), ""};
  if (available < 2 * kGiB) {
    out.state = State::Note;
    out.remedy = "the quickstart wants about 2 GiB; close other programs, or lower --micro-tokens";
  }
  return out;
}

/// Where the library that a function of libtorch's lies in was loaded from.
std::string libtorch_path() {
  Dl_info info{};
  const auto function = &at::get_num_threads;
  if (::dladdr(reinterpret_cast<void*>(function), &info) == 0 || info.dli_fname == nullptr) return "unknown place";
  return info.dli_fname;
}

/// Small whole numbers, whose product is exact in every type that is tried.
Finding check_libtorch() {
  const std::string text = fmt::format("{} from {}", build_info().libtorch, libtorch_path());
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor a = at::arange(64, at::kFloat).remainder(5).view({8, 8}).to(type);
    const at::Tensor got = at::mm(a, a).to(at::kDouble), want = at::mm(a.to(at::kDouble), a.to(at::kDouble));
    if (!at::equal(got, want))
      return {State::Broken, "libtorch", text + fmt::format(": a {} product came out wrong", c10::toString(type)),
              "install this version of libtorch anew (tools/quickstart does)"};
  }
  return {State::Ok, "libtorch", text, ""};
}

std::string rates(at::Device device) {
  return fmt::format("products {:.0f} GFLOP/s in f32, {:.0f} in bf16",
                     ceilings::matrix_rate_gflops(ops::Compute::F32, device),
                     ceilings::matrix_rate_gflops(ops::Compute::BF16, device));
}

Finding check_speed(uint64_t available) {
  std::string text = rates(at::kCPU) + fmt::format(" on {} threads", at::get_num_threads());
  if (available > 2 * kGiB) text += fmt::format("; memory read at {:.1f} GB/s", ceilings::read_bandwidth_gb_per_s());
  return {State::Ok, "speed", text, ""};
}

std::string find_nvcc() {
  std::error_code error;
  std::string path = std::getenv("PATH") != nullptr ? std::getenv("PATH") : "";
  path += ":/usr/local/cuda/bin";
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find(':', begin), path.size());
    const fs::path candidate = fs::path(path.substr(begin, end - begin)) / "nvcc";
    if (fs::is_regular_file(candidate, error)) return candidate.string();
    begin = end + 1;
  }
  return {};
}

std::string devices_text(const GpuDriver& driver) {
  std::string out;
  for (const auto& d : driver.devices)
    out += fmt::format("{}{} (compute capability {}.{}, {})", out.empty() ? "" : ", ", d.name, d.major, d.minor,
                       format_bytes(d.memory_bytes));
  return out +
         fmt::format("; driver for CUDA up to {}.{}", driver.cuda_version / 1000, driver.cuda_version % 1000 / 10);
}

/// A GPU that the driver offers: does this build use it, and if not, why?
Finding check_offered_gpu(const GpuDriver& driver, Probes probes) {
  const std::string text = devices_text(driver);
  const BuildInfo& build = build_info();
  if (build.cuda.empty()) {
    const std::string nvcc = find_nvcc();
    return {State::Note, "GPU", text + "; this build has no CUDA",
            nvcc.empty() ? "no nvcc here: install the CUDA toolkit, then build again (SLMI_CUDA=AUTO finds it)"
                         : fmt::format("{} is there: build again with -DSLMI_CUDA=ON", nvcc)};
  }
  if (!at::hasCUDA())
    return {State::Note, "GPU", text + fmt::format("; libtorch cannot use it (built for CUDA {})", build.cuda),
            "a driver at least as new as that CUDA is needed, and libtorch_cuda beside libtorch_cpu"};
  Finding out{State::Ok, "GPU", text, ""};
  if (driver.devices.front().major < 7) {
    out.state = State::Note;
    out.remedy = fmt::format("this build holds code for {}; older GPUs cannot run it", build.cuda_architectures);
  } else if (probes == Probes::Run) {
    try {
      out.text += "; " + rates({at::kCUDA, 0});
    } catch (const std::exception& e) {
      const std::string what = e.what();
      out = {State::Note, "GPU", text + "; a product failed: " + what.substr(0, what.find('\n')),
             "is another program holding its memory? --device cpu works meanwhile"};
    }
  }
  return out;
}

Finding check_gpu(Probes probes) {
  const GpuDriver driver = look_for_gpus();
  const char* on_cpu = "; everything runs on the CPU";
  if (driver.problem.empty() && !driver.devices.empty()) return check_offered_gpu(driver, probes);
  if (driver.found && (driver.on_bus || !driver.problem.empty()))
    return {State::Note, "GPU",
            fmt::format("the driver is there and cannot be used: {}{}",
                        driver.problem.empty() ? "it offers no device" : driver.problem, on_cpu),
            driver.on_bus ? "nvidia-smi tells more; after an update of the driver restart the machine, in a container "
                            "start it with its GPUs (--gpus all)"
                          : "no NVIDIA device is on the bus: nothing to do, unless there should be one"};
  if (driver.on_bus)
    return {State::Note, "GPU", fmt::format("an NVIDIA device without a driver ({}){}", driver.problem, on_cpu),
            "install NVIDIA's driver, in a container start it with its GPUs (--gpus all)"};
  return {State::Ok, "GPU", fmt::format("none{}", on_cpu), ""};
}

/// The quickstart's base: absent is fine, broken is not.
Finding check_base() {
  const char* named = std::getenv("SLMI_SMOLLM2_GGUF");
  const fs::path path = named != nullptr && *named != '\0' ? named : kQuickstartBase;
  std::error_code error;
  if (!fs::exists(path, error))
    return {State::Note, "base model", fmt::format("{} is not there", path.string()),
            "tools/quickstart fetches it; or name any Llama-type model with --base"};
  try {
    const auto checkpoint = formats::Checkpoint::open(path);
    return {
        State::Ok, "base model",
        fmt::format("{} ({}, {})", path.string(), checkpoint->formats_text(), format_bytes(checkpoint->file_bytes())),
        ""};
  } catch (const Error& e) {
    return {State::Broken, "base model", e.what(),
            fmt::format("remove {}; tools/quickstart fetches it again", path.string())};
  }
}

Finding check_disk() {
  std::error_code error;
  const auto space = fs::space(fs::current_path(error), error);
  if (error) return {State::Note, "disk", fmt::format("unknown: {}", error.message()), ""};
  Finding out{State::Ok, "disk", fmt::format("{} free here", format_bytes(space.available)), ""};
  if (space.available < kGiB) {
    out.state = State::Note;
    out.remedy = "a run with its checkpoints and reports takes up to 1 GiB; free some space";
  }
  return out;
}

}  // namespace

std::vector<Finding> examine_machine(Probes probes) {
  const uint64_t available = available_memory();
  std::vector<Finding> out = {check_cpu(), check_simd(), check_memory(available), check_libtorch()};
  if (probes == Probes::Run) out.push_back(check_speed(available));
  out.push_back(check_gpu(probes));
  out.push_back(check_base());
  out.push_back(check_disk());
  return out;
}

}  // namespace slmi::cli
