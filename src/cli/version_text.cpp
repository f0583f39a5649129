// Facts of the build and of this CPU; see the header.
#include "version_text.h"

#include "slmi/base/version.h"
#include "slmi/kernels/cpu/simd.h"

namespace slmi::cli {

std::string version_text() {
  return build_text() + "\nSIMD: " + kernels::cpu::name(kernels::cpu::simd());
}

}  // namespace slmi::cli
