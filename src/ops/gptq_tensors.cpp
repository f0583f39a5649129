// A GPTQ matrix by libtorch's own operations; see the header.
#include "slmi/ops/gptq_tensors.h"

#include <ATen/ATen.h>
#include <cstring>

namespace slmi::ops {

GptqTensors to_tensors(const quant::GptqView& view, at::Device device) {
  constexpr int64_t kPerWord = 8;
  GptqTensors out;
  out.qweight = at::empty({view.k / kPerWord, view.n}, at::kInt);
  std::memcpy(out.qweight.data_ptr(), view.qweight.data(), view.qweight.size());
  out.zeros = at::empty({view.groups, view.n}, at::kFloat);
  out.scales = at::empty_like(out.zeros);
  out.g_idx = at::empty({view.k}, at::kLong);
  quant::gptq_groups(view, out.scales.data_ptr<float>(), out.zeros.data_ptr<float>(), out.g_idx.data_ptr<int64_t>());
  for (auto* tensor : {&out.qweight, &out.zeros, &out.scales, &out.g_idx}) *tensor = tensor->to(device);
  return out;
}

at::Tensor dequantize(const GptqTensors& m) {
  const int64_t k = m.g_idx.size(0), n = m.qweight.size(1);
  const at::Tensor shifts = at::arange(0, 32, 4, m.qweight.options()).view({1, 8, 1});
  // The shift brings the sign along; four bits are kept.
  const at::Tensor codes = at::bitwise_and(at::bitwise_right_shift(m.qweight.unsqueeze(1), shifts), 15).view({k, n});
  const at::Tensor values = codes.to(at::kFloat).sub_(m.zeros.index_select(0, m.g_idx));
  return values.mul_(m.scales.index_select(0, m.g_idx)).t();
}

}  // namespace slmi::ops
