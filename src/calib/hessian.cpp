// Sums of outer products; see the header.
#include "slmi/calib/hessian.h"

#include <algorithm>

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

at::Tensor Hessian::finish(const std::string& name) const {
  require(tokens_ > 0, ErrorKind::Numeric, "{}: no calibration token reached it", name);
  const at::Tensor lower = at::tril(sum_, -1);
  const at::Tensor out = (lower + lower.t() + at::diag(sum_.diagonal())).mul_(2.0 / static_cast<double>(tokens_));
  require(at::isfinite(out).all().item<bool>(), ErrorKind::Numeric,
          "{}: its calibration inputs hold NaN or numbers too large; is the model damaged, or --compute too narrow?",
          name);
  return out;
}

}  // namespace slmi::calib
