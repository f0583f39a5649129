// One rank of a training run on the tiny tied model: ranks_run OUT [micro_tokens [cuda]], under a launcher or alone.
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
    train::testing::Process process(train::testing::load_options(device, ops::Compute::F32));
    process.config.deterministic = true;
    process.config.epochs = 5;  // of three steps of six rows and one of two
    process.config.batch_size = 6;
    process.config.micro_tokens = argc > 2 ? std::atoi(argv[2]) : 40;
    train::train(*process.llama, process.lora, process.rows, process.config, argv[1], process.hooks, *ranks);
    return 0;
  } catch (const Error& e) {
    std::cerr << "ranks_run: " << e.what() << "\n";
    return exit_code(e.kind());
  }
}
