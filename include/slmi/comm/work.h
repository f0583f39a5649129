// Work that ranks do side by side for as long as it takes, and the one end they come to where a rank fails.
#pragma once

#include <atomic>
#include <functional>

#include "slmi/comm/communicator.h"

namespace slmi::comm {

/// `stop` becomes a signal's number when the work should end early; it may be null.
using Work = std::function<void(const std::atomic<int>* stop)>;

/// Does `work` on every rank and returns when all are done. A rank at work does not count as away, however long it
/// takes: the time-out is for processes that say nothing. `work` runs on a thread of its own, and its `stop` is
/// `signal` (SIGINT or SIGTERM that arrived, or 0; may be null), or SIGKILL once another rank has failed or is lost.
/// One process does it on this thread.
/// @throws on all ranks, when the last of them has ended: what the first to fail threw there, on the others an Error of
/// its kind with "rank N ended: " before its message. Error{Peer} as the communicator.
void on_all(Communicator& ranks, const std::atomic<int>* signal, const Work& work);

/// The same with nothing to do but for rank 0.
void on_first(Communicator& ranks, const std::atomic<int>* signal, const Work& work);

}  // namespace slmi::comm
