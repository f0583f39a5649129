// Several processes of one job, as a subcommand sees them.
#pragma once

#include <memory>
#include <ostream>

#include "runtime.h"
#include "slmi/comm/communicator.h"
#include "slmi/data/encoded_dataset.h"

namespace slmi::cli {

/// Joins the ranks that the launcher's environment names, or none. @throws as comm::connect_cpus, connect_gpus.
std::unique_ptr<comm::Communicator> join_ranks(at::Device device, double timeout_s);

/// Threads for choose_threads: `wanted`, or where that is 0 and a launcher let its ranks run on all of the machine's
/// processors, this one's share of them.
int64_t threads_of_rank(int64_t wanted);

/// "rank 1: " where a launcher started this process, else "".
std::string rank_prefix();

/// A runtime of which only rank 0's prints.
class RankRuntime {
 public:
  RankRuntime(Runtime& rt, const comm::Communicator& ranks)
      : nowhere_(nullptr), quiet_{nowhere_, nowhere_, rt.command_line, rt.signal}, rt_(ranks.first() ? rt : quiet_) {}
  Runtime& get() { return rt_; }

 private:
  std::ostream nowhere_;
  Runtime quiet_;
  Runtime& rt_;
};

/// SHA-256 of all rows as the model sees them.
std::string digest(const data::EncodedDataset& rows);

/// One agreement for each flag, but for what a rank may have of its own: --threads, and the places of files, whose
/// contents count or which rank 0 alone reads.
void add_flags(std::vector<comm::Agreement>& to, const Json& resolved);

}  // namespace slmi::cli
