// One rank of a training run on the tiny tied model: ranks_run OUT [micro_tokens], under mpirun or alone.
#include <iostream>

#include "../train/small_run.h"
#include "slmi/base/error.h"

int main(int argc, char** argv) {
  using namespace slmi;
  try {
    const comm::Launch launch = comm::read_launch(comm::environment);
    const auto ranks = launch.alone() ? comm::single_process() : comm::connect_cpus(launch, std::chrono::seconds(60));
    train::testing::Process process;
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
