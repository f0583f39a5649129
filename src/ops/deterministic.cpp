// libtorch's deterministic mode; see the header.
#include "slmi/ops/deterministic.h"

#include <ATen/Context.h>

namespace slmi::ops {

Deterministic::Deterministic(at::Device device)
    : had_algorithms_(at::globalContext().deterministicAlgorithms()),
      had_fill_(at::globalContext().deterministicFillUninitializedMemory()) {
  if (device.is_cpu()) return;
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  // Everything here is written before it is read: NaN in every new tensor would only cost time.
  at::globalContext().setDeterministicFillUninitializedMemory(false);
}

Deterministic::~Deterministic() {
  at::globalContext().setDeterministicAlgorithms(had_algorithms_, /*warn_only=*/false);
  at::globalContext().setDeterministicFillUninitializedMemory(had_fill_);
}

}  // namespace slmi::ops
