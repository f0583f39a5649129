// What trainer and evaluator see of the other processes of a job.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "slmi/comm/launch.h"
#include "slmi/ops/stream_mark.h"

namespace slmi::comm {

/// Ranks of one job. All take part in every call, in the same order; results are the same bits on all of them.
/// @throws Error{Peer} from every call that waits, naming the ranks that are missing: a process of this machine that
/// ended is seen at once, another rank that does not answer after the time-out.
class Communicator {
 public:
  virtual ~Communicator() = default;
  int64_t rank() const { return rank_; }
  int64_t size() const { return size_; }
  bool first() const { return rank_ == 0; }
  /// False for a process that no launcher started: what there is to share is shared with nobody.
  virtual bool connected() const { return true; }

  /// Starts adding up `range` of all ranks, in place: f32 or f64, contiguous, on this rank's device, not to be touched
  /// before wait(). On a GPU it follows the current stream, and is recorded where that is being captured.
  virtual void all_reduce_start(const at::Tensor& range) = 0;
  /// Sums that were started are there for what follows: on a GPU on the current stream, while the host goes on.
  virtual void wait() = 0;
  /// Until a GPU has come to the mark, and done the sums before it; what follows may be under way. Whoever waits for a
  /// stream with sums on it in another way waits for ever if a rank is lost.
  virtual void wait_for(const ops::StreamMark& mark) = 0;
  /// The same for all that the current stream holds. A process without others goes on at once: it may wait in any way.
  virtual void synchronize() = 0;
  /// Rank 0's bytes, to all: contiguous, of the same size everywhere.
  virtual void broadcast(const at::Tensor& tensor) = 0;
  /// Everyone's text, by rank.
  virtual std::vector<std::string> all_gather(const std::string& mine) = 0;
  /// Until all have come here.
  virtual void barrier() = 0;

 protected:
  Communicator(int64_t rank, int64_t size) : rank_(rank), size_(size) {}

 private:
  int64_t rank_, size_;
};

/// One process: nothing is sent.
std::unique_ptr<Communicator> single_process();

/// Joins the job on CPUs, through MPI. @param timeout how long a rank may stay away.
/// @throws Error{Usage} if this program was built without MPI, or MPI sees other ranks than the environment says;
/// Error{Peer} if ranks do not come.
std::unique_ptr<Communicator> connect_cpus(const Launch& launch, std::chrono::milliseconds timeout);

/// Joins the job on GPUs, through NCCL: one rank each. @param device this rank's, the current one. The ranks meet where
/// read_meeting_place says.
/// @throws Error{Usage} if this program was built without NCCL, or ranks share a GPU; as read_meeting_place;
/// Error{Peer} if ranks do not come.
std::unique_ptr<Communicator> connect_gpus(const Launch& launch, at::Device device, std::chrono::milliseconds timeout);

/// What this program was built with to speak to other ranks, for people: "MPI on CPUs, NCCL on GPUs".
std::string transports();

/// One thing in which ranks must agree.
struct Agreement {
  std::string key, value;
};

/// @throws Error{Usage} naming the ranks and the key in which they differ from rank 0, on all ranks alike.
void require_agreement(Communicator& ranks, const std::vector<Agreement>& mine);

}  // namespace slmi::comm
