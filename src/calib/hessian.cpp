// Sums of outer products; see the header.
#include "slmi/calib/hessian.h"

#include <ATen/ATen.h>
#include <algorithm>
#include <utility>

#include "slmi/base/error.h"

namespace slmi::calib {
namespace {

/// Columns of a strip: below its diagonal block a strip is one product, above it nothing is computed. Wide enough for
/// full speed, narrow enough to save: with four strips and more nearly half of the work.
constexpr int64_t kStrip = 256;

}  // namespace

Hessian::Hessian(int64_t k, at::Device device)
    : sum_(at::zeros({k, k}, at::TensorOptions().dtype(at::kFloat).device(device))) {}

void Hessian::add(const at::Tensor& x) {
  const at::Tensor values = x.to(at::kFloat);
  const int64_t k = sum_.size(0);
  for (int64_t begin = 0; begin < k; begin += kStrip) {
    const int64_t width = std::min(kStrip, k - begin);
    at::Tensor strip = sum_.narrow(0, begin, k - begin).narrow(1, begin, width);
    strip.addmm_(values.narrow(1, begin, k - begin).t(), values.narrow(1, begin, width));
  }
  tokens_ += x.size(0);
}

void Hessian::add(const at::Tensor& x, const at::Tensor& reference, const at::Tensor& residual_difference) {
  const at::Tensor values = x.to(at::kFloat);
  add(values);
  if (!drift_.defined()) drift_ = at::zeros_like(sum_);
  drift_.addmm_((reference.to(at::kFloat) - values).t(), values);
  if (!residual_difference.defined()) return;
  if (!residual_.defined()) residual_ = at::zeros({residual_difference.size(1), x.size(1)}, sum_.options());
  residual_.addmm_(residual_difference.to(at::kFloat).t(), values);
}

InputStatistics Hessian::finish(const std::string& name) {
  require(tokens_ > 0, ErrorKind::Numeric, "{}: no calibration token reached it", name);
  const double scale = 2.0 / static_cast<double>(tokens_);
  InputStatistics out;
  const at::Tensor diagonal = sum_.diagonal().clone();
  out.hessian = sum_.tril_(-1).mul_(scale);
  sum_.reset();
  out.hessian = out.hessian + out.hessian.t();
  out.hessian.diagonal().copy_(diagonal.mul_(scale));
  out.drift = std::move(drift_);
  out.residual_drift = std::move(residual_);
  for (const auto* drift : {&out.drift, &out.residual_drift})
    if (drift->defined()) drift->mul_(scale);
  for (const auto* mean : {&out.hessian, &out.drift, &out.residual_drift})
    require(!mean->defined() || at::isfinite(*mean).all().item<bool>(), ErrorKind::Numeric,
            "{}: its calibration inputs hold NaN or numbers too large; is the model damaged, or --compute too narrow?",
            name);
  return out;
}

}  // namespace slmi::calib
