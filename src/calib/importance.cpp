// Importance matrices; see the header.
#include "slmi/calib/importance.h"

#include <algorithm>
#include <cmath>

#include "slmi/base/error.h"
#include "slmi/base/sha256.h"
#include "slmi/data/packing.h"
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

std::vector<int64_t> spread(int64_t size, int64_t wanted) {
  std::vector<int64_t> out;
  const int64_t n = std::min(size, wanted);
  for (int64_t i = 0; i < n; ++i) out.push_back(i * size / n);
  return out;
}

std::string hash_of(const data::EncodedDataset& rows, std::span<const int64_t> chosen) {
  Sha256 hash;
  for (const int64_t row : chosen) {
    const int64_t length = rows.length(row);
    hash.update(std::as_bytes(std::span(&length, 1)));
    hash.update(std::as_bytes(rows.ids(row)));
  }
  return hash.hex();
}

std::vector<float> means(const at::Tensor& sums, int64_t tokens, const std::string& name) {
  require(at::isfinite(sums).all().item<bool>(), ErrorKind::Numeric, "the inputs of {} are not finite", name);
  const at::Tensor mean = sums / static_cast<double>(tokens);
  const double least = kLeastShare * mean.mean().item<double>();
  const at::Tensor values = mean.clamp_min(least).to(at::kFloat).contiguous();
  return {values.data_ptr<float>(), values.data_ptr<float>() + values.numel()};
}

}  // namespace

Importances Importances::measure(model::Llama& llama, const data::EncodedDataset& rows,
                                 const ImportanceOptions& options) {
  require(rows.size() > 0 && options.max_rows > 0, ErrorKind::Input, "no rows to calibrate on");
  const auto chosen = spread(rows.size(), options.max_rows);
  std::map<std::pair<int64_t, std::string>, at::Tensor> sums;  // by layer and first projection, f64 [K]
  Importances out;
  int64_t done = 0;
  // Whole rows: a shared instruction counts in each of them.
  const data::CutOptions cut{options.batch_tokens, data::SharedPrefix::Off, 1};
  for (const auto& micro : data::cut_into_micro_batches(rows, chosen, cut)) {
    if (options.progress) options.progress(done, static_cast<int64_t>(chosen.size()));
    const auto batch = model::to_device(data::pack(rows, micro, data::SharedPrefix::Off), llama.device());
    auto context = model::context_of(llama, batch);
    context.observer = [&](const ops::LinearSite& site, const at::Tensor& x) {
      const at::Tensor squares = x.to(at::kDouble).square().sum(0).to(at::kCPU);
      at::Tensor& sum = sums[{site.layer, site.module}];
      sum = sum.defined() ? sum + squares : squares;
    };
    llama.forward(batch.tokens, context);
    out.num_tokens_ += batch.num_tokens;
    done += static_cast<int64_t>(micro.size());
  }
  if (options.progress) options.progress(done, static_cast<int64_t>(chosen.size()));
  for (const auto& [place, sum] : sums)
    for (const auto& module : group_of(place.second)) {
      const std::string name = tensor_name(place.first, module);
      out.values_[name] = means(sum, out.num_tokens_, name);
    }
  out.calibration_hash_ = hash_of(rows, chosen);
  return out;
}

std::span<const float> Importances::of(const std::string& hf_name) const {
  const auto found = values_.find(hf_name);
  return found == values_.end() ? std::span<const float>{} : std::span<const float>(found->second);
}

}  // namespace slmi::calib
