// Cross-entropy and greedy picking through our kernels, and through plain libtorch operations where there is none.
#include "slmi/ops/cross_entropy.h"

#include <ATen/ATen.h>

#include "cuda_types.h"
#include "slmi/kernels/cpu/cross_entropy.h"
#include "slmi/kernels/cuda/cross_entropy.h"

namespace slmi::ops {

void cross_entropy(const at::Tensor& logits, const at::Tensor& targets, CrossEntropyMode mode, const at::Tensor& loss,
                   const at::Tensor& scale) {
  if (fits_cpu_kernels(logits)) {
    const float factor = scale.defined() ? *pointer<float>(scale) : 1.0f;
    with_element_type(logits.scalar_type(), [&](auto tag) {
      using T = Element<decltype(tag)>;
      parallel(logits.size(0), 1, [&](int64_t begin, int64_t end) {
        if (mode == CrossEntropyMode::LossOnly)
          kernels::cpu::cross_entropy_loss(pointer<T>(logits), logits.stride(0), logits.size(1),
                                           pointer<int32_t>(targets), pointer<float>(loss),
                                           static_cast<float*>(nullptr), begin, end);
        else
          kernels::cpu::cross_entropy_gradient(pointer<T>(logits), logits.stride(0), logits.size(1),
                                               pointer<int32_t>(targets), factor, pointer<float>(loss),
                                               static_cast<float*>(nullptr), begin, end);
      });
    });
    return;
  }
  const bool done = on_cuda(logits, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    if (mode == CrossEntropyMode::LossOnly)
      kernels::cuda::cross_entropy_loss(pointer<const T>(logits), logits.stride(0), logits.size(0), logits.size(1),
                                        pointer<int32_t>(targets), pointer<float>(loss), stream);
    else
      kernels::cuda::cross_entropy_gradient(
          pointer<T>(logits), logits.stride(0), logits.size(0), logits.size(1), pointer<int32_t>(targets),
          scale.defined() ? pointer<float>(scale) : nullptr, pointer<float>(loss), stream);
  });
  if (done) return;
  const at::Tensor index = targets.to(at::kLong).unsqueeze(1);
  const at::Tensor log_probabilities = at::log_softmax(logits.to(at::kFloat), 1);
  loss.copy_(-log_probabilities.gather(1, index).squeeze(1));
  if (mode == CrossEntropyMode::LossOnly) return;
  const at::Tensor gradient = log_probabilities.exp();
  gradient.scatter_add_(1, index, at::full_like(index, -1.0, gradient.options()));
  logits.copy_(scale.defined() ? gradient * scale : gradient);
}

void pick_greedy(const at::Tensor& logits, const at::Tensor& ids, const at::Tensor& log_probabilities) {
  if (fits_cpu_kernels(logits)) {
    with_element_type(logits.scalar_type(), [&](auto tag) {
      using T = Element<decltype(tag)>;
      parallel(logits.size(0), 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const auto picked = kernels::cpu::pick(pointer<T>(logits) + i * logits.stride(0), logits.size(1), nullptr);
          require(picked.id >= 0, ErrorKind::Numeric,
                  "every logit of a row is NaN; are the weights or the adapter damaged?");
          pointer<int64_t>(ids)[i] = picked.id;
          pointer<float>(log_probabilities)[i] = picked.log_probability;
        }
      });
    });
    return;
  }
  const at::Tensor all = logits.to(at::kFloat);
  const at::Tensor best = all.argmax(1);
  ids.copy_(best);
  log_probabilities.copy_(all.gather(1, best.unsqueeze(1)).squeeze(1) - at::logsumexp(all, {1}));
}

}  // namespace slmi::ops
