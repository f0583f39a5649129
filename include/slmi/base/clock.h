// Time for measuring.
#pragma once

#include <chrono>

namespace slmi {

/// Seconds of a clock that never goes back, from an arbitrary start.
inline double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace slmi
