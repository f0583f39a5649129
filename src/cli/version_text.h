// What `slmi --version` says.
#pragma once

#include <string>

namespace slmi::cli {

/// Version, commit, compiler, libtorch, CUDA and its architectures, and the SIMD set in use; one fact a line, without a
/// final newline. @throws Error as kernels::cpu::simd() does.
std::string version_text();

}  // namespace slmi::cli
