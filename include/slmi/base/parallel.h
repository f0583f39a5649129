// The one thread pool of the torch-free modules: static partition, so results do not depend on timing.
#pragma once

#include <cstdint>
#include <functional>

namespace slmi {

/// Sets the number of threads (>= 1) used by parallel_for; the default is the number of processors this process may
/// use.
void set_num_threads(int n);
int num_threads();
/// Processors this process may run on (affinity mask and cgroup quota).
int available_processors();

/// Splits [0, n) into num_threads() contiguous ranges and runs body(begin, end, thread) on each; returns when all are
/// done. The first exception thrown by a body is rethrown. Not reentrant from inside a body.
void parallel_for(int64_t n, const std::function<void(int64_t begin, int64_t end, int thread)>& body);

}  // namespace slmi
