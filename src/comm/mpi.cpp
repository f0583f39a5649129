// Ranks on CPUs through MPI (standard 3.1: non-blocking collectives), Open MPI and MPICH.
//
// After the time-out ranks are asked for a small message: who does not answer soon is missing.
#include <ATen/ATen.h>
#include <mpi.h>

#include <algorithm>
#include <thread>

#include "peers.h"
#include "slmi/base/error.h"
#include "slmi/comm/communicator.h"

namespace slmi::comm {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kRollCall{2000};        // for an answer, after the time-out
constexpr milliseconds kGoodbye{2000};         // for the others to come to the end
constexpr std::chrono::microseconds kNap{50};  // of a wait, between looks at its requests

MPI_Datatype type_of(const at::Tensor& tensor) {
  require(tensor.is_contiguous() && tensor.is_cpu() &&
              (tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kDouble),
          ErrorKind::Internal, "summing over ranks: contiguous f32 or f64 on a CPU, got {} on {}",
          toString(tensor.scalar_type()), tensor.device().str());
  return tensor.scalar_type() == at::kFloat ? MPI_FLOAT : MPI_DOUBLE;
}

int count_of(int64_t count) {
  require(count <= INT32_MAX, ErrorKind::Internal, "a message of {} elements", count);
  return static_cast<int>(count);
}

class Mpi final : public Communicator {
 public:
  Mpi(const Launch& launch, milliseconds timeout)
      : Communicator(launch.rank, launch.size), peers_(launch.rank, timeout) {
    MPI_Comm_dup(MPI_COMM_WORLD, &sums_);
    MPI_Comm_dup(MPI_COMM_WORLD, &calls_);
    peers_.set_places(all_gather(to_text(this_process())));
  }

  /// At a common end all come here. Where one does not, the others leave without it: MPI's own end would wait for it.
  /// Its barrier is no neighbour of other calls: a rank that leaves early must not answer what the others wait for.
  ~Mpi() override {
    if (peers_.lost()) return;
    try {
      peers_.shorten(kGoodbye);
      barrier_on(calls_);
      MPI_Finalize();
    } catch (const Error&) {
    }
  }
  Mpi(const Mpi&) = delete;
  Mpi& operator=(const Mpi&) = delete;

  void all_reduce_start(const at::Tensor& range) override {
    const MPI_Datatype type = type_of(range);
    started_.push_back(range);
    MPI_Iallreduce(MPI_IN_PLACE, range.data_ptr(), count_of(range.numel()), type, MPI_SUM, sums_,
                   &requests_.emplace_back());
  }

  void wait() override {
    wait_for(requests_);
    requests_.clear();
    started_.clear();
  }

  void wait_for(const ops::StreamMark& mark) override { mark.wait(); }
  void synchronize() override {}

  void broadcast(const at::Tensor& tensor) override {
    require(tensor.is_contiguous() && tensor.is_cpu(), ErrorKind::Internal, "sending a tensor that is not contiguous");
    auto* bytes = static_cast<std::byte*>(tensor.data_ptr());
    constexpr int64_t kMost = 1 << 30;
    std::vector<MPI_Request> requests;
    for (int64_t at = 0, all = static_cast<int64_t>(tensor.nbytes()); at < all; at += kMost)
      MPI_Ibcast(bytes + at, count_of(std::min(kMost, all - at)), MPI_BYTE, 0, sums_, &requests.emplace_back());
    wait_for(requests);
  }

  std::vector<std::string> all_gather(const std::string& mine) override {
    const auto n = static_cast<size_t>(size());
    std::vector<int> lengths(n), offsets(n);
    const int length = count_of(static_cast<int64_t>(mine.size()));
    std::vector<MPI_Request> requests(1);
    MPI_Iallgather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, sums_, requests.data());
    wait_for(requests);
    int64_t all = 0;
    for (size_t i = 0; i < n; all += lengths[i++]) offsets[i] = count_of(all);
    std::string text(static_cast<size_t>(all), '\0');
    requests.assign(1, MPI_REQUEST_NULL);
    MPI_Iallgatherv(mine.data(), length, MPI_CHAR, text.data(), lengths.data(), offsets.data(), MPI_CHAR, sums_,
                    requests.data());
    wait_for(requests);
    std::vector<std::string> out;
    for (size_t i = 0; i < n; ++i)
      out.push_back(text.substr(static_cast<size_t>(offsets[i]), static_cast<size_t>(lengths[i])));
    return out;
  }

  void barrier() override { barrier_on(sums_); }

 private:
  void barrier_on(MPI_Comm comm) {
    std::vector<MPI_Request> requests(1);
    MPI_Ibarrier(comm, requests.data());
    wait_for(requests);
  }

  void wait_for(std::vector<MPI_Request>& requests) {
    const auto done = [&] {
      int all = 0;
      MPI_Testall(static_cast<int>(requests.size()), requests.data(), &all, MPI_STATUSES_IGNORE);
      return all != 0;
    };
    peers_.wait_until(done, kNap, [&] { return silent_ranks(); });
  }

  /// Ranks that do not say a word within kRollCall. Whoever is waiting for the same has timed out too, and asks too.
  std::vector<int64_t> silent_ranks() {
    const auto n = static_cast<size_t>(size());
    std::vector<MPI_Request> received(n, MPI_REQUEST_NULL), sent(n, MPI_REQUEST_NULL);
    std::vector<char> words(n);
    const char word = 'a';
    for (int r = 0; r < static_cast<int>(n); ++r) {
      if (r == rank()) continue;
      MPI_Irecv(&words[static_cast<size_t>(r)], 1, MPI_CHAR, r, 0, calls_, &received[static_cast<size_t>(r)]);
      MPI_Isend(&word, 1, MPI_CHAR, r, 0, calls_, &sent[static_cast<size_t>(r)]);
    }
    std::vector<bool> heard(n, false);
    heard[static_cast<size_t>(rank())] = true;
    for (const auto end = Clock::now() + kRollCall; Clock::now() < end && !std::ranges::all_of(heard, std::identity{});
         std::this_thread::sleep_for(milliseconds(1)))
      for (size_t r = 0; r < n; ++r) {
        int done = heard[r] ? 1 : 0;
        if (done == 0) MPI_Test(&received[r], &done, MPI_STATUS_IGNORE);
        heard[r] = done != 0;
      }
    std::vector<int64_t> out;
    for (size_t r = 0; r < n; ++r)
      if (!heard[r]) out.push_back(static_cast<int64_t>(r));
    return out;
  }

  MPI_Comm sums_ = MPI_COMM_NULL, calls_ = MPI_COMM_NULL;
  Peers peers_;
  std::vector<MPI_Request> requests_;
  std::vector<at::Tensor> started_;  // kept until the sums are there
};

}  // namespace

std::unique_ptr<Communicator> connect_cpus(const Launch& launch, milliseconds timeout) {
  int given = 0, rank = 0, size = 0;
  const int wanted = MPI_THREAD_FUNNELED;
  require(MPI_Init_thread(nullptr, nullptr, wanted, &given) == MPI_SUCCESS && given >= wanted, ErrorKind::Device,
          "MPI does not start, or lets no program have threads (level {}, wanted {})", given, wanted);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (size != launch.size || rank != launch.rank) {
    MPI_Finalize();
    fail(ErrorKind::Usage,
         "{}'s environment says rank {} of {}, MPI says rank {} of {}; start it with the mpirun of the MPI that slmi "
         "was "
         "built with",
         name(launch.launcher), launch.rank, launch.size, rank, size);
  }
  return std::make_unique<Mpi>(launch, timeout);
}

}  // namespace slmi::comm
