// NF4 on a GPU through our kernels; see the header.
#include "slmi/ops/nf4_tensors.h"

#include <ATen/ATen.h>
#include <cmath>

#include "cuda_types.h"
#include "slmi/base/error.h"
#include "slmi/kernels/cuda/nf4.h"
#include "slmi/kernels/dynamic_map.h"

namespace slmi::ops {
namespace {

constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

template <class Values>
at::Tensor upload(const Values& values, at::ScalarType type, at::Device device) {
  return at::from_blob(const_cast<void*>(static_cast<const void*>(values.data())),
                       {static_cast<int64_t>(values.size())}, type)
      .to(device);
}

template <class T>
std::vector<T> download(const at::Tensor& values) {
  if (!values.defined()) return {};
  const at::Tensor here = values.cpu();
  return {here.const_data_ptr<T>(), here.const_data_ptr<T>() + here.numel()};
}

/// The scales on the host. @throws Error{Numeric} if one is not finite: the CPU's quantizer, which the values then go
/// through, names the place.
std::vector<float> finite_scales(const at::Tensor& absmax, const at::Tensor& values) {
  std::vector<float> out = download<float>(absmax);
  for (const float scale : out) {
    if (std::isfinite(scale)) continue;
    quant::nf4_quantize(download<float>(values.to(at::kFloat).flatten()), values.size(0), values.size(1));
    fail(ErrorKind::Internal, "quantizing to NF4: a scale of {}, but no such value", scale);
  }
  return out;
}

}  // namespace

uint64_t Nf4Tensors::bytes() const {
  return codes.nbytes() + (absmax.defined() ? absmax.nbytes() : absmax_codes.nbytes() + absmax2.nbytes());
}

Nf4Tensors to_tensors(const quant::Nf4Matrix& matrix, at::Device device) {
  Nf4Tensors out;
  out.n = matrix.n;
  out.k = matrix.k;
  out.codes = upload(matrix.codes, at::kByte, device);
  if (!matrix.doubly_quantized()) {
    out.absmax = upload(matrix.absmax, at::kFloat, device);
    return out;
  }
  out.absmax_codes = upload(matrix.absmax_codes, at::kByte, device);
  out.absmax2 = upload(matrix.absmax2, at::kFloat, device);
  out.map = upload(kernels::dynamic_map(), at::kFloat, device);
  out.offset = matrix.offset;
  return out;
}

quant::Nf4Matrix to_matrix(const Nf4Tensors& tensors) {
  quant::Nf4Matrix out;
  out.n = tensors.n;
  out.k = tensors.k;
  out.codes = download<uint8_t>(tensors.codes);
  out.absmax = download<float>(tensors.absmax);
  out.absmax_codes = download<uint8_t>(tensors.absmax_codes);
  out.absmax2 = download<float>(tensors.absmax2);
  out.offset = tensors.offset;
  return out;
}

Nf4Tensors nf4_quantize(const at::Tensor& values, quant::Nf4Scales scales) {
  const int64_t count = values.numel(), blocks = ceil_div(count, kernels::kNf4Block);
  const auto byte = values.options().dtype(at::kByte), f32 = values.options().dtype(at::kFloat);
  Nf4Tensors out;
  out.n = values.size(0);
  out.k = values.size(1);
  const bool done =
      values.is_contiguous() && on_cuda(values, [&](auto tag, auto stream) {
        using T = Element<decltype(tag)>;
        out.codes = at::empty({ceil_div(count, 2)}, byte);
        out.absmax = at::empty({blocks}, f32);
        kernels::cuda::nf4_quantize(pointer<T>(values), count, pointer<uint8_t>(out.codes), pointer<float>(out.absmax),
                                    stream);
        const std::vector<float> absmax = finite_scales(out.absmax, values);
        if (scales == quant::Nf4Scales::Plain) return;
        out.offset = quant::scales_mean(absmax);
        out.map = upload(kernels::dynamic_map(), at::kFloat, values.device());
        out.absmax_codes = at::empty({blocks}, byte);
        out.absmax2 = at::empty({ceil_div(blocks, kernels::kNf4NestedBlock)}, f32);
        kernels::cuda::nf4_quantize_scales(pointer<float>(out.absmax), blocks, out.offset, pointer<float>(out.map),
                                           pointer<uint8_t>(out.absmax_codes), pointer<float>(out.absmax2), stream);
        out.absmax.reset();
      });
  require(done, ErrorKind::Internal, "quantizing to NF4 on a GPU: f32, bf16 or f16 there and contiguous, got {} on {}",
          toString(values.scalar_type()), values.device().str());
  return out;
}

void nf4_dequantize_into(const Nf4Tensors& matrix, const at::Tensor& out) {
  const bool done = on_cuda(out, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    kernels::Nf4View view;
    view.n = matrix.n;
    view.k = matrix.k;
    view.codes = pointer<uint8_t>(matrix.codes);
    view.offset = matrix.offset;
    const float* map = nullptr;
    if (matrix.absmax.defined()) {
      view.absmax = pointer<float>(matrix.absmax);
    } else {
      view.absmax_codes = pointer<uint8_t>(matrix.absmax_codes);
      view.absmax2 = pointer<float>(matrix.absmax2);
      map = pointer<float>(matrix.map);
    }
    kernels::cuda::nf4_dequantize(view, map, pointer<T>(out), out.stride(0), stream);
  });
  require(done, ErrorKind::Internal,
          "NF4 to numbers on a GPU: f32, bf16 or f16 there with adjacent columns, got {} on {}",
          toString(out.scalar_type()), out.device().str());
}

}  // namespace slmi::ops
