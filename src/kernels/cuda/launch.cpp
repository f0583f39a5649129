// Launch errors; see the header.
#include "launch.h"

#include <cuda_runtime_api.h>

#include "slmi/base/error.h"

namespace slmi::kernels::cuda::detail {

void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  require(error == cudaSuccess, ErrorKind::Internal, "{}: the GPU did not take it: {}", kernel,
          cudaGetErrorString(error));
}

void refuse(const char* kernel, const char* what) {
  fail(ErrorKind::Internal, "{}: {}", kernel, what);
}

}  // namespace slmi::kernels::cuda::detail
