// Stored matrices and their way back to numbers; see the header.
#include "slmi/ops/packed_matrix.h"

#include <ATen/ATen.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "cuda_types.h"
#include "slmi/base/error.h"
#include "slmi/kernels/cpu/dequantize.h"
#include "slmi/kernels/cuda/gguf.h"
#include "slmi/quant/gguf_codec.h"
#include "slmi/quant/gptq_packing.h"

namespace slmi::ops {
namespace {

using quant::WeightFormat;

/// Rows [begin, end) of a CPU matrix to out's rows [0, end - begin); out f32 or bf16.
template <class Dequantize>
void run_rows(const at::Tensor& out, int64_t rows, const Dequantize& dequantize) {
  const int64_t stride = out.stride(0);
  const bool f32 = out.scalar_type() == at::kFloat;
  auto* base = static_cast<std::byte*>(out.data_ptr());
  parallel(rows, kRowGrain, [&](int64_t begin, int64_t end) {
    std::byte* at = base + begin * stride * static_cast<int64_t>(out.element_size());
    if (f32)
      dequantize(reinterpret_cast<float*>(at), stride, begin, end);
    else
      dequantize(reinterpret_cast<uint16_t*>(at), stride, begin, end);
  });
}

at::ScalarType dense_type(WeightFormat format) {
  if (format == WeightFormat::F32) return at::kFloat;
  return format == WeightFormat::BF16 ? at::kBFloat16 : at::kHalf;
}

kernels::cuda::BlockView block_view(const at::Tensor& blocks, WeightFormat format, int64_t n, int64_t k) {
  return {quant::block_format(format), pointer<uint8_t>(blocks), n, k};
}

}  // namespace

WeightFormat weight_format(Compute compute) {
  switch (compute) {
    case Compute::BF16:
      return WeightFormat::BF16;
    case Compute::F16:
      return WeightFormat::F16;
    case Compute::F32:
      break;
  }
  return WeightFormat::F32;
}

PackedMatrix PackedMatrix::from_stored(formats::StoredTensor tensor) {
  require(tensor.shape.size() == 2, ErrorKind::Input, "tensor '{}': {} dimensions; a weight matrix has 2", tensor.name,
          tensor.shape.size());
  PackedMatrix m;
  m.name_ = tensor.name;
  m.format_ = tensor.format;
  m.n_ = tensor.shape[0];
  m.k_ = tensor.shape[1];
  if (tensor.nf4)
    m.nf4_ = tensor.nf4;
  else
    m.stored_ = std::make_shared<const formats::StoredTensor>(std::move(tensor));
  return m;
}

PackedMatrix PackedMatrix::from_values(const std::string& name, const at::Tensor& values) {
  const auto held = std::make_shared<const at::Tensor>(values.contiguous());
  formats::StoredTensor tensor;
  tensor.name = name;
  tensor.format = WeightFormat::F32;
  tensor.shape = {values.size(0), values.size(1)};
  tensor.bytes = std::as_bytes(std::span(held->const_data_ptr<float>(), static_cast<size_t>(held->numel())));
  tensor.owner = held;
  return from_stored(std::move(tensor));
}

PackedMatrix PackedMatrix::from_gptq(const std::string& name, std::shared_ptr<const quant::GptqPlanes> planes) {
  formats::StoredTensor tensor;
  tensor.name = name;
  tensor.format = WeightFormat::GPTQ;
  tensor.shape = {planes->n, planes->k};
  tensor.gptq = std::make_shared<const quant::GptqView>(planes->view());
  tensor.bytes = tensor.gptq->qweight;
  tensor.owner = std::move(planes);
  return from_stored(std::move(tensor));
}

PackedMatrix PackedMatrix::converted_to(WeightFormat format) const {
  if (format == format_) return *this;
  PackedMatrix m;
  m.name_ = name_;
  m.format_ = format;
  m.n_ = n_;
  m.k_ = k_;
  m.device_ = device_;
  if (!device_.is_cpu()) {
    require(format == WeightFormat::NF4 && dense_.defined(), ErrorKind::Internal,
            "{}: a GPU makes NF4 of 16- and 32-bit numbers; other conversions run on the CPU", name_);
    m.planes_ = nf4_quantize(dense_, quant::Nf4Scales::Double);
    return m;
  }
  const at::Tensor values = at::empty({n_, k_}, at::kFloat);
  dequantize_into(values);
  const std::span<const float> span(values.data_ptr<float>(), static_cast<size_t>(values.numel()));
  if (format == WeightFormat::NF4) {
    m.nf4_ = std::make_shared<const quant::Nf4Matrix>(quant::nf4_quantize(span, n_, k_));
    return m;
  }
  auto bytes = std::make_shared<const std::vector<std::byte>>(quant::quantize(format, span, n_, k_));
  formats::StoredTensor stored;
  stored.name = name_;
  stored.format = format;
  stored.shape = {n_, k_};
  stored.bytes = *bytes;
  stored.owner = bytes;
  m.stored_ = std::make_shared<const formats::StoredTensor>(std::move(stored));
  return m;
}

PackedMatrix PackedMatrix::to(at::Device device) const {
  if (device == device_) return *this;
  PackedMatrix m = *this;
  m.stored_.reset();
  m.nf4_.reset();
  m.device_ = device;
  if (format_ == WeightFormat::NF4) {
    m.planes_ = to_tensors(*nf4_, device);
    return m;
  }
  if (format_ == WeightFormat::GPTQ) {
    m.gptq_ = to_tensors(*stored_->gptq, device);
    return m;
  }
  if (quant::is_quantized(format_)) {
    m.blocks_ = at::from_blob(const_cast<std::byte*>(stored_->bytes.data()),
                              {static_cast<int64_t>(stored_->bytes.size())}, at::kByte)
                    .to(device);
    return m;
  }
  m.dense_ = at::from_blob(const_cast<std::byte*>(stored_->bytes.data()), {n_, k_}, dense_type(format_)).to(device);
  return m;
}

uint64_t PackedMatrix::bytes() const {
  if (nf4_) return static_cast<uint64_t>(nf4_->bytes());
  if (planes_.defined()) return planes_.bytes();
  if (gptq_.defined()) return gptq_.bytes();
  return stored_ ? stored_->stored_bytes() : static_cast<uint64_t>(quant::matrix_bytes(format_, n_, k_));
}

void PackedMatrix::page_out() const {
  if (!stored_) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(stored_->bytes.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(stored_->bytes.data() + stored_->bytes.size()) / page * page;
  // Advice, and harmless to owned bytes: clean pages of a file are dropped, others could at most be swapped out.
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_PAGEOUT);
}

void PackedMatrix::dequantize_into(const at::Tensor& out) const {
  if (!device_.is_cpu()) {
    if (planes_.defined()) return nf4_dequantize_into(planes_, out);
    if (blocks_.defined()) return dequantize_blocks_into(out);
    out.copy_(dequantize_cuda());
  } else if (out.scalar_type() == at::kFloat || out.scalar_type() == at::kBFloat16) {
    dequantize_rows_into(out, 0);
  } else {
    const at::Tensor values = at::empty({n_, k_}, at::kFloat);
    dequantize_rows_into(values, 0);
    out.copy_(values);
  }
}

void PackedMatrix::dequantize_rows_into(const at::Tensor& out, int64_t first_row) const {
  if (nf4_) {
    const auto view = nf4_->view();
    return run_rows(out, out.size(0), [&](auto* dst, int64_t stride, int64_t begin, int64_t end) {
      kernels::cpu::nf4_dequantize_rows(view, dst, stride, first_row + begin, first_row + end);
    });
  }
  if (stored_->gptq)
    return run_rows(out, out.size(0), [&](auto* dst, int64_t stride, int64_t begin, int64_t end) {
      quant::gptq_dequantize_rows(*stored_->gptq, dst, stride, first_row + begin, first_row + end);
    });
  const auto block = quant::block_format(format_);
  run_rows(out, out.size(0), [&](auto* dst, int64_t stride, int64_t begin, int64_t end) {
    kernels::cpu::dequantize_rows(block, stored_->bytes.data(), dst, k_, stride, first_row + begin, first_row + end);
  });
}

void PackedMatrix::dequantize_blocks_into(const at::Tensor& out) const {
  const bool done = on_cuda(out, [&](auto tag, auto stream) {
    using T = Element<decltype(tag)>;
    kernels::cuda::gguf_dequantize(block_view(blocks_, format_, n_, k_), pointer<T>(out), out.stride(0), stream);
  });
  require(done, ErrorKind::Internal,
          "{}: blocks to numbers on a GPU: f32, bf16 or f16 there with adjacent columns, got {} on {}", name_,
          toString(out.scalar_type()), out.device().str());
}

at::Tensor PackedMatrix::dequantize_cuda() const {
  if (dense_.defined()) return dense_;
  if (gptq_.defined()) return dequantize(gptq_);
  const at::Tensor values = at::empty({n_, k_}, at::TensorOptions().dtype(at::kFloat).device(device_));
  dequantize_into(values);
  return values;
}

at::Tensor PackedMatrix::rows(const at::Tensor& ids) const {
  if (blocks_.defined()) {
    const at::Tensor out = at::empty({ids.size(0), k_}, blocks_.options().dtype(at::kFloat)), index = ids.contiguous();
    on_cuda(out, [&](auto tag, auto stream) {
      using T = Element<decltype(tag)>;
      kernels::cuda::gguf_rows(block_view(blocks_, format_, n_, k_), pointer<int32_t>(index), index.size(0),
                               pointer<T>(out), out.stride(0), stream);
    });
    return out;
  }
  if (!device_.is_cpu()) return dequantize_cuda().index_select(0, ids).to(at::kFloat);
  const at::Tensor out = at::empty({ids.size(0), k_}, at::kFloat);
  const at::Tensor index = ids.to(at::kLong).contiguous();
  const int64_t* id = index.data_ptr<int64_t>();
  parallel(ids.size(0), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      require(id[i] >= 0 && id[i] < n_, ErrorKind::Internal, "{}: token id {} lies outside [0, {})", name_, id[i], n_);
      float* row = out.data_ptr<float>() + i * k_;
      if (nf4_)
        kernels::cpu::nf4_dequantize_rows(nf4_->view(), row, k_, id[i], id[i] + 1);
      else if (stored_->gptq)
        quant::gptq_dequantize_rows(*stored_->gptq, row, k_, id[i], id[i] + 1);
      else
        kernels::cpu::dequantize_rows(quant::block_format(format_), stored_->bytes.data(), row, k_, k_, id[i],
                                      id[i] + 1);
    }
  });
  return out;
}

}  // namespace slmi::ops
