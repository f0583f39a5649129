// What a launch says when it fails.
#pragma once

namespace slmi::kernels::cuda::detail {

/// After a launch. @throws Error{Internal} naming the kernel and what CUDA says.
void check_launch(const char* kernel);

/// @throws Error{Internal}: sizes that a kernel is not made for.
[[noreturn]] void refuse(const char* kernel, const char* what);

}  // namespace slmi::kernels::cuda::detail
