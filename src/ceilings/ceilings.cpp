// Measuring a device, and JSON of what was found; see the header.
#include "slmi/ceilings/ceilings.h"

#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <type_traits>

#include "slmi/base/error.h"
#include "slmi/base/machine.h"
#include "slmi/ceilings/probe.h"

namespace slmi::ceilings {
namespace {

/// Another number of libtorch's threads for a while.
class ThreadsGuard {
 public:
  explicit ThreadsGuard(int threads) : before_(at::get_num_threads()) { at::set_num_threads(threads); }
  ~ThreadsGuard() { at::set_num_threads(before_); }
  ThreadsGuard(const ThreadsGuard&) = delete;
  ThreadsGuard& operator=(const ThreadsGuard&) = delete;

 private:
  int before_;
};

double one_thread_bandwidth() {
  const ThreadsGuard guard(1);
  return read_bandwidth_gb_per_s();
}

std::string key_of(const NamedRate& rate) {
  return fmt::format("{}_gflops", rate.name);
}

/// A value of the type that is wanted. @throws Error{Input} naming source and key.
template <class T>
T value_of(const Json& json, const std::string& key, const std::string& source) {
  require(json.contains(key), ErrorKind::Input, "{}: '{}' is missing; written by another version of slmi?", source,
          key);
  const Json& value = json[key];
  const bool fits = std::is_same_v<T, std::string> ? value.is_string()
                    : std::is_same_v<T, bool>      ? value.is_boolean()
                    : std::is_integral_v<T>        ? value.is_number_integer()
                                                   : value.is_number();
  require(fits, ErrorKind::Input, "{}: {}: unexpected {}", source, key, value.type_name());
  return value.get<T>();
}

std::optional<double> optional_of(const Json& json, const std::string& key, const std::string& source) {
  if (json.contains(key) && json[key].is_null()) return std::nullopt;
  return value_of<double>(json, key, source);
}

Json or_null(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

}  // namespace

Ceilings measure_ceilings(c10::Device device, const std::function<void(const std::string&)>& progress) {
  const auto say = [&](const std::string& text) {
    if (progress) progress(text);
  };
  const auto rate = [&](ops::Compute compute) {
    say(fmt::format("products in {}", ops::name(compute)));
    return matrix_rate_gflops(compute, device);
  };
  Ceilings out;
  out.device = device.str();
  if (device.is_cpu()) {
    out.processor = processor_name();
    out.threads = at::get_num_threads();
    say("memory, one thread");
    out.read_gb_per_s_one_thread = one_thread_bandwidth();
    say(fmt::format("memory, {} threads", out.threads));
    out.read_gb_per_s = out.threads == 1 ? *out.read_gb_per_s_one_thread : read_bandwidth_gb_per_s();
    out.f32_gflops = rate(ops::Compute::F32);
    out.bf16_gflops = rate(ops::Compute::BF16);
    return out;
  }
  out.processor = gpu_name();
  say("memory");
  out.read_gb_per_s = copy_bandwidth_gb_per_s(device);
  out.f32_gflops = rate(ops::Compute::F32);
  out.bf16_gflops = rate(ops::Compute::BF16);
  out.f16_gflops = rate(ops::Compute::F16);
  c10::getDeviceAllocator(device.type())->emptyCache();  // whoever measures memory next finds the device as it was
  return out;
}

Json to_json(const Ceilings& ceilings) {
  Json out = {{"device", ceilings.device},
              {"processor", ceilings.processor},
              {"threads", ceilings.threads},
              {"predicted", ceilings.predicted},
              {"read_gb_per_s", ceilings.read_gb_per_s},
              {"read_gb_per_s_one_thread", or_null(ceilings.read_gb_per_s_one_thread)}};
  for (const auto& rate : kRates) out[key_of(rate)] = or_null(ceilings.*rate.gflops);
  return out;
}

Ceilings ceilings_from_json(const Json& json, const std::string& source) {
  require(json.is_object(), ErrorKind::Input, "{}: expected an object", source);
  Ceilings out;
  out.device = value_of<std::string>(json, "device", source);
  out.processor = value_of<std::string>(json, "processor", source);
  out.threads = value_of<int64_t>(json, "threads", source);
  out.predicted = value_of<bool>(json, "predicted", source);
  out.read_gb_per_s = value_of<double>(json, "read_gb_per_s", source);
  out.read_gb_per_s_one_thread = optional_of(json, "read_gb_per_s_one_thread", source);
  for (const auto& rate : kRates) out.*rate.gflops = optional_of(json, key_of(rate), source);
  return out;
}

}  // namespace slmi::ceilings
