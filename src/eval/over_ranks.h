// A model measured by all ranks of a job.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "slmi/comm/communicator.h"
#include "slmi/eval/worker.h"

namespace slmi::eval {

/// run_in_process for several ranks, each with worker processes of its own, whose files lie in a temporary directory of
/// its machine. Rank 0 alone is timed, while the others are idle; then rank r answers batches r, r + size, ... of those
/// that one process would form. Batches are dealt whole since kernels, and with them the last bits of an answer's
/// log-probability, differ with a batch's size.
/// @returns on rank 0 the run of all, its answers in any order: speed and memory as rank 0 saw them, accuracy_s of the
/// slowest, no energy, which ranks of one machine would count several times. On the others their own share.
/// @throws as run_in_process, on all ranks as comm::on_all; Error{Output} if there is no room for temporary files.
ModelRun run_over_ranks(const WorkerJob& job, const std::vector<std::string>& command, const std::atomic<int>* signal,
                        comm::Communicator& ranks);

}  // namespace slmi::eval
