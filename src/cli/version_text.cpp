// Facts of the build and of this CPU; see the header.
#include "version_text.h"

#include "slmi/base/version.h"
#include "slmi/comm/communicator.h"
#include "slmi/kernels/cpu/simd.h"

namespace slmi::cli {

std::string version_text() {
  return build_text() + "\nranks: " + comm::transports() + "\nSIMD: " + kernels::cpu::name(kernels::cpu::simd());
}

}  // namespace slmi::cli
