// Marks on a stream; see the header.
#include "slmi/ops/stream_mark.h"

#ifdef SLMI_WITH_CUDA
#include <ATen/cuda/CUDAEvent.h>
#endif

namespace slmi::ops {
namespace {

#ifdef SLMI_WITH_CUDA
using Event = at::cuda::CUDAEvent;
#else
struct Event {
  void record() {}
  bool query() const { return true; }
  void synchronize() const {}
};
#endif

}  // namespace

struct StreamMark::State {
  Event event;
};

StreamMark::StreamMark(at::Device device) : state_(device.is_cpu() ? nullptr : std::make_unique<State>()) {}
StreamMark::~StreamMark() = default;

void StreamMark::record() {
  if (state_) state_->event.record();
}

bool StreamMark::reached() const {
  return !state_ || state_->event.query();
}

void StreamMark::wait() const {
  if (state_) state_->event.synchronize();
}

}  // namespace slmi::ops
