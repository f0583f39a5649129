// Ranks on GPUs through NCCL (libtorch's c10d), one GPU each.
//
// Words, barriers and the roll call of ranks go through the store in which they met; sums through NCCL, on a stream of
// c10d's own beside the current one. A sum whose peer is lost never ends and holds up all that the stream has after it:
// wait_for() looks for lost ranks while it waits, and once it has found one the GPU is not touched any more.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <exception>
#include <future>
#include <map>
#include <thread>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "meeting.h"
#include "slmi/base/error.h"
#include "slmi/base/json.h"
#include "slmi/comm/communicator.h"
#include "slmi/ops/stream_mark.h"
#include "slmi/ops/tensor.h"

namespace slmi::comm {
namespace {

constexpr std::chrono::microseconds kNap{0};  // of a wait, between looks at the GPU: they spin, as CUDA's own wait does

/// PCI address: the same GPU has it in every process of a machine, whatever number it has there.
std::string name_of_gpu(at::Device device) {
  std::array<char, 32> name{};
  cudaDeviceGetPCIBusId(name.data(), name.size(), device.index());
  return name.data();
}

class Nccl final : public Communicator {
 public:
  Nccl(const Launch& launch, const MeetingPlace& place, at::Device device, std::chrono::milliseconds timeout)
      : Communicator(launch.rank, launch.size), device_(device), meeting_(launch, place, timeout) {
    require_own_gpu();
    // Its watchdog would end the process in its own way, before wait_for() can say who is missing.
    for (const char* variable : {"TORCH_NCCL_ASYNC_ERROR_HANDLING", "TORCH_NCCL_ENABLE_MONITORING"})
      ::setenv(variable, "0", 0);
  }

  /// NCCL's own end waits for sums that are under way: where a rank is lost, or this one fails, it is left as it is.
  ~Nccl() override {
    meeting_.leave();
    if (!group_) return;
    const bool orderly = !meeting_.peers().lost() && std::uncaught_exceptions() == 0;
    orderly ? group_->shutdown() : static_cast<void>(group_.release());
  }
  Nccl(const Nccl&) = delete;
  Nccl& operator=(const Nccl&) = delete;

  /// The first of these makes NCCL's connections, which cannot be recorded.
  void all_reduce_start(const at::Tensor& range) override {
    require(range.is_contiguous() && range.device() == device_, ErrorKind::Internal,
            "summing over ranks: contiguous on {}, got {}", device_.str(), range.device().str());
    std::vector<at::Tensor> tensors = {range};
    started_.push_back(group().allreduce(tensors));
  }

  void wait() override {
    for (const auto& work : started_) work->wait();
    started_.clear();
  }

  void wait_for(const ops::StreamMark& mark) override {
    meeting_.peers().wait_until([&] { return mark.reached(); }, kNap, [&] { return meeting_.silent_ranks(); });
  }

  void synchronize() override {
    end_.record();
    wait_for(end_);
  }

  void broadcast(const at::Tensor& tensor) override {
    require(tensor.is_contiguous() && tensor.device() == device_, ErrorKind::Internal,
            "sending a tensor that is not contiguous on {}", device_.str());
    std::vector<at::Tensor> tensors = {tensor};
    group().broadcast(tensors)->wait();
    synchronize();
  }

  std::vector<std::string> all_gather(const std::string& mine) override { return meeting_.all_gather(mine); }
  void barrier() override { meeting_.barrier(); }

 private:
  c10d::ProcessGroupNCCL& group() {
    if (group_) return *group_;
    auto made = c10::make_intrusive<c10d::ProcessGroupNCCL>(meeting_.store(), static_cast<int>(rank()),
                                                            static_cast<int>(size()));
    std::packaged_task<void()> connect([made, device = device_] {
      ops::make_current(device);
      made->eagerConnectSingleDevice(device);
    });
    auto connected = connect.get_future();
    std::thread(std::move(connect)).detach();  // if a rank is lost now, it waits for ever
    meeting_.peers().wait_until(
        [&] { return connected.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }, kNap,
        [&] { return meeting_.silent_ranks(); });
    connected.get();
    group_ = std::move(made);
    return *group_;
  }

  void require_own_gpu() {
    const std::string mine = Json({{"host", this_process().host}, {"gpu", name_of_gpu(device_)}}).dump();
    std::map<std::string, int64_t> owners;
    for (int64_t rank = 0; const auto& gpu : meeting_.all_gather(mine)) {
      const auto [owner, first] = owners.emplace(gpu, rank);
      require(
          first, ErrorKind::Usage,
          "ranks {} and {} have the same GPU ({}), and NCCL wants one for each: start as many ranks on a machine as it "
          "has GPUs (Slurm: --gpus-per-task=1)",
          owner->second, rank, gpu);
      ++rank;
    }
  }

  at::Device device_;
  Meeting meeting_;
  c10::intrusive_ptr<c10d::ProcessGroupNCCL> group_;
  std::vector<c10::intrusive_ptr<c10d::Work>> started_;
  ops::StreamMark end_{device_};  // of what the stream held at the last synchronize()
};

}  // namespace

std::unique_ptr<Communicator> connect_gpus(const Launch& launch, at::Device device, std::chrono::milliseconds timeout) {
  return std::make_unique<Nccl>(launch, read_meeting_place(environment, launch), device, timeout);
}

}  // namespace slmi::comm
