// Importance matrices; see the header.
#include "slmi/calib/importance.h"

#include <ATen/ATen.h>

#include "slmi/base/error.h"
#include "slmi/formats/peft_adapter.h"
#include "slmi/model/batch.h"

namespace slmi::calib {
namespace {

// Of a column that was always 0, as a share of the mean of all columns: too little to matter, enough to be kept.
constexpr double kLeastShare = 1e-6;

/// The projections that share the input of a group, by its first one.
std::vector<std::string> group_of(const std::string& first) {
  if (first == "q_proj") return {"q_proj", "k_proj", "v_proj"};
  if (first == "gate_proj") return {"gate_proj", "up_proj"};
  return {first};
}

std::string tensor_name(int64_t layer, const std::string& module) {
  return fmt::format("model.layers.{}.{}.weight", layer,
                     formats::llama_module_path(formats::parse_llama_module(module)));
}

std::vector<float> means(const at::Tensor& sums, int64_t tokens, const std::string& name) {
  require(at::isfinite(sums).all().item<bool>(), ErrorKind::Numeric, "the inputs of {} are not finite", name);
  return importances_of(sums / static_cast<double>(tokens));
}

}  // namespace

std::vector<float> importances_of(const at::Tensor& mean_squares) {
  const at::Tensor mean = mean_squares.to(at::kCPU, at::kDouble);
  const double least = kLeastShare * mean.mean().item<double>();
  const at::Tensor values = mean.clamp_min(least).to(at::kFloat).contiguous();
  return {values.const_data_ptr<float>(), values.const_data_ptr<float>() + values.numel()};
}

Importances Importances::measure(model::Llama& llama, const CalibrationRows& rows,
                                 const std::function<void(int64_t, int64_t)>& progress) {
  std::map<std::pair<int64_t, std::string>, at::Tensor> sums;  // by layer and first projection, f64 [K]
  int64_t done = 0;
  for (const auto& batch : rows.batches) {
    if (progress) progress(done, rows.num_tokens);
    auto context = model::context_of(llama, batch);
    context.observer = [&](const ops::LinearSite& site, const at::Tensor& x) {
      const at::Tensor squares = x.to(at::kDouble).square().sum(0).to(at::kCPU);
      at::Tensor& sum = sums[{site.layer, site.module}];
      sum = sum.defined() ? sum + squares : squares;
    };
    llama.forward(batch.tokens, context);
    done += batch.num_tokens;
  }
  if (progress) progress(done, rows.num_tokens);
  Importances out;
  for (const auto& [place, sum] : sums)
    for (const auto& module : group_of(place.second)) {
      const std::string name = tensor_name(place.first, module);
      out.values_[name] = means(sum, rows.num_tokens, name);
    }
  return out;
}

std::span<const float> Importances::of(const std::string& hf_name) const {
  const auto found = values_.find(hf_name);
  return found == values_.end() ? std::span<const float>{} : std::span<const float>(found->second);
}

}  // namespace slmi::calib
