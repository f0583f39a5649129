// Facts of the build: constants from CMake, and the commit, which a build step writes (cmake/WriteCommit.cmake).
#include "slmi/base/version.h"

#include <fmt/format.h>

#include "slmi_commit.inc"

namespace slmi {

const BuildInfo& build_info() {
  static const BuildInfo info = {
      .version = SLMI_VERSION,
      .commit = SLMI_COMMIT,
      .compiler = SLMI_COMPILER,
      .build_type = SLMI_BUILD_TYPE,
      .libtorch = SLMI_LIBTORCH_VERSION,
      .cuda = SLMI_CUDA_VERSION,
      .cuda_architectures = SLMI_CUDA_ARCHITECTURES,
  };
  return info;
}

std::string version_string() {
  return fmt::format("{} ({})", build_info().version, build_info().commit);
}

std::string git_commit() {
  return build_info().commit;
}

std::string build_text() {
  const BuildInfo& b = build_info();
  std::string out = fmt::format("slmi {}\ncompiler: {}, {}", version_string(), b.compiler, b.build_type);
  out += fmt::format("\nlibtorch: {}", b.libtorch.empty() ? "none" : b.libtorch);
  out += b.cuda.empty() ? "\nCUDA: not compiled in"
                        : fmt::format("\nCUDA: {}, architectures {}", b.cuda, b.cuda_architectures);
  return out;
}

}  // namespace slmi
