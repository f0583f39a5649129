// Timing at rank 0, then everyone's share of the batches; see the header.
#include "over_ranks.h"

#include <algorithm>
#include <iterator>

#include "slmi/base/error.h"
#include "slmi/base/scratch_directory.h"
#include "slmi/comm/work.h"

namespace slmi::eval {
namespace {

/// `whole` with the answers of all shares in place of its own.
ModelRun join(ModelRun whole, const std::vector<std::string>& shares) {
  whole.answers.clear();
  whole.held = 0;
  whole.speed.accuracy_s = 0.0;
  whole.speed.accuracy_rows = 0;
  whole.speed.accuracy_energy_j.reset();
  for (size_t rank = 0; rank < shares.size(); ++rank) {
    ModelRun share = model_run_from_json(Json::parse(shares[rank]), fmt::format("rank {}", rank));
    if (rank == 0) whole.facts.base_sha256 = share.facts.base_sha256;  // the timed one did not hash it
    std::ranges::move(share.answers, std::back_inserter(whole.answers));
    whole.held += share.held;
    whole.speed.accuracy_s = std::max(whole.speed.accuracy_s, share.speed.accuracy_s);
    whole.speed.accuracy_rows += share.speed.accuracy_rows;
    whole.speed.accuracy_batch = share.speed.accuracy_batch;
  }
  return whole;
}

}  // namespace

ModelRun run_over_ranks(const WorkerJob& job, const std::vector<std::string>& command, const std::atomic<int>* signal,
                        comm::Communicator& ranks) {
  const auto run = [&](const WorkerJob& part, const std::atomic<int>* stop) {
    const ScratchDirectory own("slmi-eval");  // --out is rank 0's, and may be shared by machines
    return run_in_process(part, command, own.path(), stop);
  };
  WorkerJob part = job;
  ModelRun timed, share;
  const bool timing = job.measure.latency_rows > 0;
  if (timing) {
    // A process of its own loads the model once more, but at a time when the other ranks have to load it anyway.
    part.measure.answers = false;
    comm::on_first(ranks, signal, [&](const auto* stop) { timed = run(part, stop); });
    part.measure.answers = true;
    part.measure.latency_rows = 0;
  }
  part.measure.share = ranks.rank();
  part.measure.shares = ranks.size();
  comm::on_all(ranks, signal, [&](const auto* stop) { share = run(part, stop); });
  const auto shares = ranks.all_gather(to_json(share).dump());
  if (!ranks.first()) return share;
  return join(timing ? std::move(timed) : std::move(share), shares);
}

}  // namespace slmi::eval
