// One process, and what ranks have to agree in; see the header.
#include "slmi/comm/communicator.h"

#include "slmi/base/error.h"
#include "slmi/base/json.h"

namespace slmi::comm {
namespace {

class SingleProcess final : public Communicator {
 public:
  SingleProcess() : Communicator(0, 1) {}
  bool connected() const override { return false; }
  void all_reduce_start(const at::Tensor&) override {}
  void wait() override {}
  void wait_for(const ops::StreamMark& mark) override { mark.wait(); }
  void synchronize() override {}
  void broadcast(const at::Tensor&) override {}
  std::vector<std::string> all_gather(const std::string& mine) override { return {mine}; }
  void barrier() override {}
};

}  // namespace

std::unique_ptr<Communicator> single_process() {
  return std::make_unique<SingleProcess>();
}

std::string transports() {
  std::string out;
#ifdef SLMI_WITH_MPI
  out += "MPI on CPUs";
#endif
#ifdef SLMI_WITH_NCCL
  out += out.empty() ? "NCCL on GPUs" : ", NCCL on GPUs";
#endif
  return out.empty() ? "one process only" : out;
}

#ifndef SLMI_WITH_MPI
std::unique_ptr<Communicator> connect_cpus(const Launch& launch, std::chrono::milliseconds) {
  fail(ErrorKind::Usage,
       "{} started {} ranks, but this slmi was built without MPI, which ranks on CPUs need; install libopenmpi-dev and "
       "build again with -DSLMI_MPI=ON",
       name(launch.launcher), launch.size);
}
#endif

#ifndef SLMI_WITH_NCCL
std::unique_ptr<Communicator> connect_gpus(const Launch& launch, at::Device, std::chrono::milliseconds) {
  fail(ErrorKind::Usage,
       "{} started {} ranks on GPUs, but this slmi was built without NCCL, which they need; build it with CUDA, a "
       "libtorch "
       "that has NCCL, and -DSLMI_NCCL=ON",
       name(launch.launcher), launch.size);
}
#endif

void require_agreement(Communicator& ranks, const std::vector<Agreement>& mine) {
  if (ranks.size() == 1) return;
  Json values = Json::object();
  for (const auto& [key, value] : mine) values[key] = value;
  const auto all = ranks.all_gather(values.dump());
  const Json first = Json::parse(all.front());
  std::string differences;
  for (size_t rank = 1; rank < all.size(); ++rank) {
    const Json other = Json::parse(all[rank]);
    for (const auto& [key, value] : first.items())
      if (!other.contains(key) || other[key] != value)
        differences += fmt::format("{}rank {} has {} {}, rank 0 has {}", differences.empty() ? "" : "; ", rank, key,
                                   other.value(key, "none"), value.get<std::string>());
  }
  require(differences.empty(), ErrorKind::Usage, "the ranks of a job must run the same: {}; nothing was started",
          differences);
}

}  // namespace slmi::comm
