// What this binary was built from: for --version, reports and the provenance of every artefact.
#pragma once

#include <string>

namespace slmi {

/// Facts about the build. Empty strings mean "not part of this build".
struct BuildInfo {
  std::string version;     // the project's, "0.1.0"
  std::string commit;      // git describe at the time of the build: "1a2b3c4d5e6f", "...-dirty"; "unknown" without git
  std::string compiler;    // "GNU 12.2.0"
  std::string build_type;  // "Release"
  std::string libtorch;    // "2.11.0+cu130"; empty in a build without libtorch
  std::string cuda;        // toolkit, "13.0.88"; empty where CUDA was not compiled
  std::string cuda_architectures;  // "7.5;8.0;8.6;8.9;9.0+PTX"; empty where CUDA was not compiled
};

/// The build's facts. Thread-safe.
const BuildInfo& build_info();

/// "0.1.0 (1a2b3c4d5e6f)": what artefacts carry.
std::string version_string();

/// The commit alone: build_info().commit.
std::string git_commit();

/// One fact a line, without a final newline: version and commit, compiler, libtorch, CUDA and its architectures. The
/// SIMD set is not here: it is found at run time, in kernels.
std::string build_text();

}  // namespace slmi
