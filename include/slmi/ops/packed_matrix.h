// A weight matrix as it is stored, whatever its format, and the way back to numbers.
#pragma once

#include <memory>
#include <string>

#include "slmi/formats/checkpoint.h"
#include "slmi/ops/gptq_tensors.h"
#include "slmi/ops/nf4_tensors.h"
#include "slmi/ops/tensor.h"
#include "slmi/quant/nf4.h"
#include "slmi/quant/weight_format.h"

namespace slmi::ops {

/// The 16- or 32-bit format of a compute type's numbers.
quant::WeightFormat weight_format(Compute compute);

/// A matrix [N, K] in Hugging Face's row order. Copies share the storage. Immutable, safe to read from several threads.
/// On the CPU the planes are the mapped file's bytes or owned ones; on a GPU they are tensors.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  /// Takes the bytes as they are in the file. @throws Error{Input} if the tensor is not a matrix.
  static PackedMatrix from_stored(formats::StoredTensor tensor);
  /// f32 [N, K] on the CPU; shares the tensor's memory.
  static PackedMatrix from_values(const std::string& name, const at::Tensor& values);
  /// Planes that were just made.
  static PackedMatrix from_gptq(const std::string& name, std::shared_ptr<const quant::GptqPlanes> planes);
  /// The same values in another format, all but GPTQ; rounds once from f32, NF4 in blocks of 64 with double
  /// quantization, GGUF's blocks without importances. On a GPU from 16- and 32-bit floats to NF4, with the CPU's bits.
  PackedMatrix converted_to(quant::WeightFormat format) const;
  /// The same matrix on another device.
  PackedMatrix to(at::Device device) const;

  quant::WeightFormat format() const { return format_; }
  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  at::Device device() const { return device_; }
  const std::string& name() const { return name_; }
  /// Bytes of the stored form.
  uint64_t bytes() const;
  bool defined() const { return n_ > 0; }
  /// Lets go of the mapped file's pages: they come back from the file when next read. For a matrix that has been copied
  /// into another form. Owned bytes keep their values.
  void page_out() const;

  /// Writes all values to out [N, K] (f32, bf16 or f16; rows may be strided), rounding once from f32.
  void dequantize_into(const at::Tensor& out) const;
  /// Rows [first_row, first_row + out.size(0)) to out (f32 or bf16; rows may be strided). On the CPU only.
  void dequantize_rows_into(const at::Tensor& out, int64_t first_row) const;
  /// The values where a GPU holds them as numbers, [N, K] in the stored type; undefined otherwise.
  at::Tensor held_values() const { return dense_; }
  /// Rows picked by ids (i32 [T], on the matrix's device) as f32 [T, K].
  at::Tensor rows(const at::Tensor& ids) const;

 private:
  void dequantize_blocks_into(const at::Tensor& out) const;
  at::Tensor dequantize_cuda() const;

  std::string name_;
  quant::WeightFormat format_ = quant::WeightFormat::F32;
  int64_t n_ = 0, k_ = 0;
  at::Device device_ = at::kCPU;
  std::shared_ptr<const formats::StoredTensor> stored_;  // CPU, every format but NF4
  std::shared_ptr<const quant::Nf4Matrix> nf4_;          // CPU, NF4
  at::Tensor dense_;                                     // GPU, 16- and 32-bit floats
  Nf4Tensors planes_;                                    // GPU, NF4
  GptqTensors gptq_;                                     // GPU, GPTQ
  at::Tensor blocks_;                                    // GPU, GGUF blocks: u8, as in the file
};

}  // namespace slmi::ops
