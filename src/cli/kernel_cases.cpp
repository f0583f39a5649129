// Buffers and launches; see the header.
#include "kernel_cases.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <memory>
#include <numeric>

#include "slmi/kernels/moments8.h"
#include "slmi/kernels/nf4_codebook.h"
#include "slmi/ops/cross_entropy.h"
#include "slmi/ops/dropout.h"
#include "slmi/ops/linear_group.h"
#include "slmi/ops/nf4_tensors.h"
#include "slmi/ops/norm.h"
#include "slmi/ops/optimizer.h"
#include "slmi/ops/rope.h"
#include "slmi/ops/swiglu.h"

namespace slmi::cli {
namespace {

using S = BenchShape;
constexpr double kEps = 1e-5;
constexpr double kBf16 = 2.0, kF32 = 4.0, kI32 = 4.0, kI64 = 8.0;  // bytes

/// Matrices that share an input: their rows, one under the other.
struct Group {
  std::vector<std::string> modules;
  std::vector<int64_t> n;
  int64_t k;
};
const std::vector<Group>& groups() {
  static const std::vector<Group> all = {
      {{"q_proj", "k_proj", "v_proj"},
       {S::kHeads * S::kHeadDim, S::kKvHeads * S::kHeadDim, S::kKvHeads * S::kHeadDim},
       S::kWidth},
      {{"o_proj"}, {S::kWidth}, S::kHeads * S::kHeadDim},
      {{"gate_proj", "up_proj"}, {S::kFfn, S::kFfn}, S::kWidth},
      {{"down_proj"}, {S::kWidth}, S::kFfn}};
  return all;
}

/// Makes buffers on a GPU.
struct Buffers {
  at::Device device;

  at::TensorOptions of(at::ScalarType type) const { return at::TensorOptions().dtype(type).device(device); }
  at::Tensor empty(int64_t rows, int64_t width, at::ScalarType type = at::kBFloat16) const {
    return at::empty({rows, width}, of(type));
  }
  at::Tensor normal(int64_t rows, int64_t width, at::ScalarType type = at::kBFloat16, double deviation = 1.0) const {
    return empty(rows, width, type).normal_(0.0, deviation);
  }
  at::Tensor vector(int64_t n) const { return at::empty({n}, of(at::kFloat)).normal_(); }
};

std::string shape_text(int64_t rows, int64_t width) {
  return fmt::format("{} x {}", rows, width);
}

KernelCase nf4_case(const Buffers& b, int64_t n, int64_t k) {
  const auto values = static_cast<double>(n * k);
  const double scales = values / static_cast<double>(kernels::kNf4Block);
  const double packed = values / 2 + scales + kF32 * scales / static_cast<double>(kernels::kNf4NestedBlock);
  return {"NF4 to bf16", shape_text(n, k), packed + kBf16 * values, [b, n, k]() -> Launch {
            const auto matrix = ops::nf4_quantize(b.normal(n, k, at::kBFloat16, 0.02), quant::Nf4Scales::Double);
            return [matrix, out = b.empty(n, k)] {
              ops::nf4_dequantize_into(matrix, out);
              return at::Tensor();
            };
          }};
}

void add_norms(const Buffers& b, std::vector<KernelCase>& out) {
  constexpr int64_t kT = S::kTokens, kD = S::kWidth;
  const double values = kT * kD, beside = kF32 * (kT + kD);  // rstd, weight
  const std::string shape = shape_text(kT, kD);
  out.push_back({"RMSNorm", shape, (kF32 + kBf16) * values + beside, [b]() -> Launch {
                   return
                       [x = b.normal(kT, kD, at::kFloat), w = b.vector(kD), y = b.empty(kT, kD), rstd = b.vector(kT)] {
                         ops::rms_norm_forward(x, w, kEps, y, rstd);
                         return at::Tensor();
                       };
                 }});
  out.push_back({"residual + RMSNorm", shape, (2 * kF32 + 2 * kBf16) * values + beside, [b]() -> Launch {
                   return [x = b.normal(kT, kD, at::kFloat), y = b.normal(kT, kD), w = b.vector(kD),
                           normed = b.empty(kT, kD),
                           rstd = b.vector(kT)] { return ops::add_rms_norm_forward(x, y, w, kEps, normed, rstd); };
                 }});
  out.push_back({"residual", shape, (2 * kF32 + kBf16) * values, [b]() -> Launch {
                   return [x = b.normal(kT, kD, at::kFloat), y = b.normal(kT, kD)] { return ops::add_residual(x, y); };
                 }});
  out.push_back({"RMSNorm backward", shape, (3 * kF32 + 2 * kBf16) * values + beside, [b]() -> Launch {
                   return [dy = b.normal(kT, kD), x = b.normal(kT, kD, at::kFloat), w = b.vector(kD),
                           rstd = b.vector(kT), dx = b.normal(kT, kD, at::kFloat), rounded = b.empty(kT, kD)] {
                     ops::rms_norm_backward(dy, x, w, rstd, dx, rounded);
                     return at::Tensor();
                   };
                 }});
  out.push_back({"RMSNorm backward, output again", shape, (3 * kF32 + 3 * kBf16) * values + beside, [b]() -> Launch {
                   return [dy = b.normal(kT, kD), x = b.normal(kT, kD, at::kFloat), w = b.vector(kD),
                           rstd = b.vector(kT), dx = b.normal(kT, kD, at::kFloat), rounded = b.empty(kT, kD)] {
                     ops::rms_norm_backward(dy, x, w, rstd, dx, rounded, dy);
                     return at::Tensor();
                   };
                 }});
}

void add_rope(const Buffers& b, std::vector<KernelCase>& out) {
  constexpr int64_t kHeads = S::kHeads + S::kKvHeads, kPositions = 512;  // rows of 512 tokens
  constexpr int64_t kRotated = kHeads * S::kHeadDim;
  const double bytes = 2 * kBf16 * S::kTokens * kRotated + kI32 * S::kTokens + kF32 * kPositions * S::kHeadDim;
  for (const auto direction : {ops::RopeDirection::Forward, ops::RopeDirection::Inverse}) {
    const char* name = direction == ops::RopeDirection::Forward ? "RoPE" : "RoPE backward";
    out.push_back({name, shape_text(S::kTokens, kRotated), bytes, [b, direction]() -> Launch {
                     ops::RopeTable table(std::vector<float>(S::kHeadDim / 2, 0.1f), b.device);
                     table.reserve(kPositions);
                     const at::Tensor positions = at::arange(S::kTokens, b.of(at::kInt)).remainder(kPositions);
                     // Beside v, as the projection writes them.
                     const at::Tensor qk =
                         b.normal(S::kTokens, kRotated + S::kKvHeads * S::kHeadDim).narrow(1, 0, kRotated);
                     return [qk, table, positions, direction] {
                       ops::rope_apply(qk, kHeads, table, positions, direction);
                       return at::Tensor();
                     };
                   }});
  }
}

void add_swiglu(const Buffers& b, std::vector<KernelCase>& out) {
  constexpr int64_t kT = S::kTokens, kF = S::kFfn;
  const double values = kT * kF;
  out.push_back({"SwiGLU", shape_text(kT, kF), 3 * kBf16 * values, [b]() -> Launch {
                   return [gate_up = b.normal(kT, 2 * kF), y = b.empty(kT, kF)] {
                     ops::swiglu_forward(gate_up, y);
                     return at::Tensor();
                   };
                 }});
  out.push_back({"SwiGLU backward", shape_text(kT, kF), 5 * kBf16 * values, [b]() -> Launch {
                   return [gate_up = b.normal(kT, 2 * kF), dy = b.normal(kT, kF), d = b.empty(kT, 2 * kF)] {
                     ops::swiglu_backward(gate_up, dy, d);
                     return at::Tensor();
                   };
                 }});
  if (!ops::swiglu_lora_fits(b.empty(1, 2 * kF), S::kRank)) return;
  const double adapter = S::kRank * (kBf16 * kT + 2 * kF32 * kF);  // du; the gradient of A, read and written
  out.push_back(
      {"SwiGLU backward, with A's gradient", shape_text(kT, kF), 5 * kBf16 * values + adapter, [b]() -> Launch {
         return [gate_up = b.normal(kT, 2 * kF), dy = b.normal(kT, kF), d = b.empty(kT, 2 * kF),
                 du = b.normal(kT, S::kRank), grad_a = b.normal(S::kRank, kF, at::kFloat)] {
           ops::swiglu_lora_backward(gate_up, dy, d, du, grad_a);
           return at::Tensor();
         };
       }});
}

void add_cross_entropy(const Buffers& b, std::vector<KernelCase>& out) {
  constexpr int64_t kT = S::kTokens, kV = S::kVocabulary;
  const double pass = kBf16 * kT * kV, beside = (kI32 + kF32) * kT;
  const auto make = [b](ops::CrossEntropyMode mode) -> Launch {
    return [logits = b.normal(kT, kV), targets = at::randint(kV, {kT}, b.of(at::kInt)), loss = b.vector(kT), mode] {
      ops::cross_entropy(logits, targets, mode, loss);
      return at::Tensor();
    };
  };
  out.push_back({"cross-entropy, loss", shape_text(kT, kV), pass + beside,
                 [make] { return make(ops::CrossEntropyMode::LossOnly); }});
  out.push_back({"cross-entropy, loss and gradient", shape_text(kT, kV), 2 * pass + beside,
                 [make] { return make(ops::CrossEntropyMode::LossAndGradient); }});
}

KernelCase dropout_case(const Buffers& b) {
  constexpr int64_t kT = S::kTokens, kD = S::kWidth;
  return {"dropout", shape_text(kT, kD), 2 * kBf16 * kT * kD + (kI64 + kI32) * kT, [b]() -> Launch {
            ops::DropoutContext context;
            context.probability = 0.05;
            context.step_on_device = at::ones({1}, b.of(at::kLong));
            context.row_keys = at::arange(kT, b.of(at::kLong));
            context.positions = at::arange(kT, b.of(at::kInt));
            return [x = b.normal(kT, kD), context, y = b.empty(kT, kD)] {
              ops::apply_dropout(x, context, 0, y);
              return at::Tensor();
            };
          }};
}

KernelCase adamw_case(const Buffers& b, ops::MomentBits bits) {
  int64_t count = 0;
  for (const auto& group : groups())
    for (const int64_t n : group.n) count += S::kLayers * S::kRank * (n + group.k);
  // Parameter, gradient and both moments are read and written.
  const double moment = bits == ops::MomentBits::F32 ? kF32 : 1.0 + kF32 / kernels::kMomentBlock;
  return {bits == ops::MomentBits::F32 ? "AdamW" : "AdamW, 8 bits", fmt::format("{}", count),
          (4 * kF32 + 4 * moment) * static_cast<double>(count), [b, count, bits]() -> Launch {
            ops::StepNumbers numbers(b.device);
            numbers.set(1e-4, 1, S::kTokens, 0.0, {});
            const at::Tensor values = b.vector(count);
            return [values, gradients = b.vector(count), moments = ops::Moments(values, bits), numbers] {
              ops::adamw_step(values, gradients, moments, {}, numbers);
              return at::Tensor();
            };
          }};
}

/// A matrix in bf16, and where its products go.
struct BareProduct {
  at::Tensor x, w, y, dy, dx;
};
enum class Stacking { None, SharedInputs };
LayerCase bare_products(const Buffers& b, const char* name, Stacking stacking) {
  auto products = std::make_shared<std::vector<BareProduct>>();
  const auto add = [&](int64_t n, int64_t k) {
    products->push_back({b.normal(S::kTokens, k), b.normal(n, k, at::kBFloat16, 0.02), b.empty(S::kTokens, n),
                         b.normal(S::kTokens, n), b.empty(S::kTokens, k)});
  };
  for (const auto& group : groups()) {
    if (stacking == Stacking::SharedInputs)
      add(std::accumulate(group.n.begin(), group.n.end(), int64_t{0}), group.k);
    else
      for (const int64_t n : group.n) add(n, group.k);
  }
  return {name, 0.0,
          [products] {
            for (auto& p : *products) at::mm_out(p.y, p.x, p.w.t());
          },
          [products] {
            for (auto& p : *products) at::mm_out(p.dx, p.dy, p.w);
          }};
}

/// A group with its adapters, and buffers of a step.
struct GroupRun {
  ops::LinearGroup group;
  at::Tensor x_ext, y, dy_ext;
};
GroupRun group_run(const Buffers& b, const Group& shape, quant::WeightFormat format, ops::Residency residency) {
  std::vector<ops::PackedMatrix> matrices;
  std::vector<ops::LinearSite> sites;
  std::vector<ops::LoraPair> pairs;
  for (size_t i = 0; i < shape.n.size(); ++i) {
    const int64_t n = shape.n[i], k = shape.k;
    matrices.push_back(ops::PackedMatrix::from_values(shape.modules[i], at::randn({n, k}).mul_(0.02))
                           .converted_to(quant::WeightFormat::BF16)
                           .to(b.device)
                           .converted_to(format));
    sites.push_back({0, shape.modules[i]});
    ops::LoraPair pair;
    pair.a = b.normal(S::kRank, k, at::kFloat, 0.02);
    pair.b = b.normal(n, S::kRank, at::kFloat, 0.02);
    pair.grad_a = at::zeros_like(pair.a);
    pair.grad_b = at::zeros_like(pair.b);
    pair.scale = 2.0;
    pairs.push_back(pair);
  }
  GroupRun out{{std::move(matrices), std::move(sites), ops::Compute::BF16, residency}, {}, {}, {}};
  out.group.attach(std::move(pairs));
  out.x_ext = b.normal(S::kTokens, out.group.input_width());
  out.y = b.empty(S::kTokens, out.group.n());
  out.dy_ext = b.normal(S::kTokens, out.group.gradient_width());
  return out;
}

LayerCase lora_linears(const Buffers& b, const char* name, double limit, quant::WeightFormat format,
                       ops::Residency residency) {
  auto runs = std::make_shared<std::vector<GroupRun>>();
  for (const auto& group : groups()) runs->push_back(group_run(b, group, format, residency));
  return {name, limit,
          [runs] {
            for (const auto& r : *runs) r.group.forward(r.x_ext, r.y, nullptr);
          },
          [runs] {
            for (const auto& r : *runs)
              r.group.backward(r.dy_ext, r.x_ext, nullptr, ops::LinearGroup::InputGradient::Wanted);
          }};
}

}  // namespace

std::vector<KernelCase> kernel_cases(at::Device device) {
  const Buffers b{device};
  std::vector<KernelCase> out;
  for (const auto& [n, k] : {std::pair(S::kKvHeads * S::kHeadDim, S::kWidth), std::pair(S::kWidth, S::kWidth),
                             std::pair(S::kFfn, S::kWidth), std::pair(S::kWidth, S::kFfn)})
    out.push_back(nf4_case(b, n, k));
  add_norms(b, out);
  add_rope(b, out);
  add_swiglu(b, out);
  add_cross_entropy(b, out);
  out.push_back(dropout_case(b));
  out.push_back(adamw_case(b, ops::MomentBits::F32));
  out.push_back(adamw_case(b, ops::MomentBits::Eight));
  return out;
}

std::vector<LayerCase> layer_cases(at::Device device) {
  const Buffers b{device};
  // Limits: what LoRA may cost beside the base's products, and the dequantization of the base twice with it.
  return {bare_products(b, "bare products, seven matrices", Stacking::None),
          bare_products(b, "bare products, stacked where inputs are shared", Stacking::SharedInputs),
          lora_linears(b, "LoRA on bf16 weights", 1.4, quant::WeightFormat::BF16, ops::Residency::Resident),
          lora_linears(b, "LoRA on NF4, dequantized twice", 1.55, quant::WeightFormat::NF4, ops::Residency::Transient)};
}

}  // namespace slmi::cli
