// The worker program of the tests: what `slmi eval --worker FILE` is in the field.
#include <cstdio>
#include <exception>

#include "slmi/eval/worker.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    slmi::eval::run_worker(argv[1], {});
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
