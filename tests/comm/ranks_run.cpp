// One rank of a training run on the tiny tied model, under a launcher or alone:
// ranks_run OUT [micro_tokens [cpu|cuda [f32|bf16 [STEP]]]]. After STEP the last rank has SIGTERM.
#include <csignal>
#include <iostream>

#include "../train/small_run.h"
#include "slmi/base/error.h"

int main(int argc, char** argv) {
  using namespace slmi;
  try {
    const comm::Launch launch = comm::read_launch(comm::environment);
    const bool gpu = argc > 3 && std::string(argv[3]) == "cuda";
    const std::chrono::seconds timeout(60);
    at::Device device(at::kCPU);
    if (gpu) device = at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(comm::gpu_of_rank(launch, ops::gpu_count())));
    ops::make_current(device);
    const auto ranks = launch.alone() ? comm::single_process()
                       : gpu          ? comm::connect_gpus(launch, device, timeout)
                                      : comm::connect_cpus(launch, timeout);
    const auto compute = argc > 4 && std::string(argv[4]) == "bf16" ? ops::Compute::BF16 : ops::Compute::F32;
    train::testing::Process process(train::testing::load_options(device, compute));
    process.config.deterministic = true;
    process.config.epochs = 5;  // of three steps of six rows and one of two
    process.config.batch_size = 6;
    process.config.micro_tokens = argc > 2 ? std::atoi(argv[2]) : 40;
    const int64_t last = argc > 5 ? std::atoi(argv[5]) : 0;
    std::atomic<int> signal = 0;
    process.hooks.signal = &signal;
    process.hooks.on_step = [&](const train::StepRecord& r, int64_t) {
      if (r.step == last && ranks->rank() == ranks->size() - 1) signal = SIGTERM;
    };
    train::train(*process.llama, process.lora, process.rows, process.config, argv[1], process.hooks, *ranks);
    return 0;
  } catch (const Error& e) {
    std::cerr << "ranks_run: " << e.what() << "\n";
    return exit_code(e.kind());
  }
}
