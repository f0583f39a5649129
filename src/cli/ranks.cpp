// Ranks of a job; see the header.
#include "ranks.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "slmi/base/error.h"
#include "slmi/base/parallel.h"
#include "slmi/base/sha256.h"

namespace slmi::cli {

std::unique_ptr<comm::Communicator> join_ranks(at::Device device, double timeout_s) {
  const comm::Launch launch = comm::read_launch(comm::environment);
  if (launch.alone()) return comm::single_process();
  const std::chrono::milliseconds timeout(std::llround(1e3 * timeout_s));
  return device.is_cpu() ? comm::connect_cpus(launch, timeout) : comm::connect_gpus(launch, device, timeout);
}

int64_t threads_of_rank(int64_t wanted) {
  const comm::Launch launch = comm::read_launch(comm::environment);
  const int64_t all = ::sysconf(_SC_NPROCESSORS_ONLN);
  if (wanted > 0 || launch.local_size <= 1 || available_processors() < all) return wanted;
  return std::max<int64_t>(1, all / launch.local_size);
}

std::string rank_prefix() {
  try {
    const comm::Launch launch = comm::read_launch(comm::environment);
    return launch.alone() ? "" : fmt::format("rank {}: ", launch.rank);
  } catch (const Error&) {
    return "";
  }
}

std::string digest(const data::EncodedDataset& rows) {
  Sha256 sha;
  for (int64_t i = 0; i < rows.size(); ++i) {
    sha.update_u64(static_cast<uint64_t>(rows.length(i)));
    sha.update_u64(static_cast<uint64_t>(rows.target_begin(i)));
    sha.update_u64(static_cast<uint64_t>(rows.prefix_len(i)));
    sha.update(std::as_bytes(rows.ids(i)));
  }
  return sha.hex();
}

void add_flags(std::vector<comm::Agreement>& to, const Json& resolved) {
  static const std::set<std::string> own = {"threads", "base",         "data",       "val",    "out",
                                            "resume",  "init_adapter", "template",   "system", "tokenizer",
                                            "model",   "predictions",  "train_data", "leaks"};
  for (const auto& [key, value] : resolved.items())
    if (!own.contains(key)) to.push_back({"configuration " + key, value.dump()});
}

}  // namespace slmi::cli
