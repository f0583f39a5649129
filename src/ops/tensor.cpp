// Element types of the core.
#include "slmi/ops/tensor.h"

namespace slmi::ops {

at::ScalarType scalar_type(Compute compute) {
  switch (compute) {
    case Compute::F32:
      return at::kFloat;
    case Compute::BF16:
      return at::kBFloat16;
    case Compute::F16:
      return at::kHalf;
  }
  return at::kFloat;
}

std::string name(Compute compute) {
  switch (compute) {
    case Compute::F32:
      return "f32";
    case Compute::BF16:
      return "bf16";
    case Compute::F16:
      return "f16";
  }
  return "?";
}

}  // namespace slmi::ops
