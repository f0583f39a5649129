// Machine, build and training; see the header.
#include "slmi/eval/environment.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <cmath>
#include <ctime>

#include "slmi/base/error.h"
#include "slmi/base/json.h"
#include "slmi/base/machine.h"
#include "slmi/base/mapped_file.h"
#include "slmi/base/parallel.h"
#include "slmi/base/version.h"
#include "slmi/kernels/cpu/simd.h"

namespace slmi::eval {
namespace {

namespace fs = std::filesystem;

void add_point(const Json& line, const char* key, std::vector<double>& xs, std::vector<double>& ys) {
  if (!line.contains(key) || !line[key].is_number() || !line.contains("step") || !line["step"].is_number()) return;
  xs.push_back(line["step"].get<double>());
  ys.push_back(line[key].get<double>());
}

}  // namespace

report::Machine machine() {
  report::Machine out;
  out.cpu = processor_name();
  out.os = value_in_file("/etc/os-release", "PRETTY_NAME", '=');
  utsname name{};
  if (::uname(&name) == 0) out.os += fmt::format("{}{} {}", out.os.empty() ? "" : ", ", name.sysname, name.release);
  out.cores = available_processors();
  const long pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGESIZE);
  if (pages > 0 && page > 0) out.memory_bytes = static_cast<int64_t>(pages) * page;
  return out;
}

report::Build build() {
  const BuildInfo& info = build_info();
  return {info.version, info.commit, info.libtorch, info.cuda, kernels::cpu::name(kernels::cpu::simd()), info.compiler};
}

std::string utc_date() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  return fmt::format("{:04d}-{:02d}-{:02d}T{:02d}:{:02d}:{:02d}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

report::TrainingCurve training_curve(const std::string& name, const fs::path& run) {
  report::TrainingCurve curve;
  curve.name = name;
  const fs::path file = run / "metrics.jsonl";
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return curve;
  const MappedFile mapped = MappedFile::open(file);
  const std::string_view text = mapped.text();
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    if (end == std::string_view::npos) break;
    const Json line = parse_json(text.substr(begin, end - begin), fmt::format("{}:{}", file.string(), ++number));
    begin = end + 1;
    add_point(line, "loss", curve.step, curve.loss);
    add_point(line, "val_loss", curve.val_step, curve.val_loss);
    add_point(line, "val_exact_match", curve.match_step, curve.val_exact_match);
  }
  return curve;
}

}  // namespace slmi::eval
