// What a GPU can do, by its compute capability.
#pragma once

namespace slmi::kernels::cuda {

/// 90 for sm_90; decided at the first call. A negative device is the current one. SLMI_FORCE_SM=75 in the environment,
/// or another number below the GPU's own, takes the road of an older one, so that it can be tried on what there is.
/// @throws Error{Usage} for a value that is no number, Error{Device}.
int compute_capability(int device);

}  // namespace slmi::kernels::cuda
