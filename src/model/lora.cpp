// Flat adapter buffers; see the header.
#include "slmi/model/lora.h"

#include <ATen/ATen.h>
#include <algorithm>
#include <cmath>

#include "slmi/base/error.h"
#include "slmi/base/random.h"

namespace slmi::model {

const std::vector<std::string>& all_projections() {
  static const std::vector<std::string> names = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                 "gate_proj", "up_proj", "down_proj"};
  return names;
}

std::pair<int64_t, int64_t> projection_shape(const formats::LlamaConfig& c, const std::string& module) {
  const int64_t q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim;
  if (module == "q_proj") return {q, c.hidden_size};
  if (module == "k_proj" || module == "v_proj") return {kv, c.hidden_size};
  if (module == "o_proj") return {c.hidden_size, q};
  if (module == "gate_proj" || module == "up_proj") return {c.intermediate_size, c.hidden_size};
  if (module == "down_proj") return {c.hidden_size, c.intermediate_size};
  fail(ErrorKind::Usage,
       "'{}' is no projection of a Llama block; expected some of q_proj k_proj v_proj o_proj gate_proj up_proj "
       "down_proj",
       module);
}

double LoraSpec::scale() const {
  return alpha / (rank_stabilized ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank));
}

void Lora::lay_out(const formats::LlamaConfig& config) {
  require(!spec_.targets.empty(), ErrorKind::Usage, "LoRA needs at least one target projection");
  for (const auto& target : spec_.targets) projection_shape(config, target);  // refuses unknown names
  int64_t offset = 0;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (const auto& module : all_projections()) {
      if (std::find(spec_.targets.begin(), spec_.targets.end(), module) == spec_.targets.end()) continue;
      const auto [n, k] = projection_shape(config, module);
      slots_.push_back({layer, module, k, n, spec_.rank, offset, offset + spec_.rank * k});
      offset += spec_.rank * (k + n);
    }
  }
}

Lora::Lora(const formats::LlamaConfig& config, const LoraSpec& spec, at::Device device, uint64_t seed) : spec_(spec) {
  lay_out(config);
  const auto& last = slots_.back();
  const at::Tensor values = at::zeros({last.offset_b + last.rank * last.n}, at::kFloat);
  for (size_t i = 0; i < slots_.size(); ++i) {
    const auto& slot = slots_[i];
    uint64_t state = seed ^ (static_cast<uint64_t>(i) << 32);
    Random random(splitmix64(state));
    const double bound = 1.0 / std::sqrt(static_cast<double>(slot.k));
    float* a = values.data_ptr<float>() + slot.offset_a;
    for (int64_t j = 0; j < slot.rank * slot.k; ++j) a[j] = static_cast<float>((2.0 * random.uniform() - 1.0) * bound);
  }
  values_ = values.to(device);
}

Lora Lora::from_adapter(const formats::LlamaConfig& config, const formats::PeftAdapter& adapter, at::Device device) {
  Lora out;
  const auto& config_of = adapter.config();
  out.spec_ = {config_of.r, config_of.alpha, config_of.dropout, config_of.use_rslora, config_of.target_modules};
  out.lay_out(config);
  const auto& last = out.slots_.back();
  const at::Tensor values = at::zeros({last.offset_b + last.rank * last.n}, at::kFloat);
  for (const auto& slot : out.slots_) {
    const auto found = adapter.pairs().find({slot.layer, formats::parse_llama_module(slot.module)});
    if (found == adapter.pairs().end()) continue;  // B = 0: no update there
    const auto place = [&](const formats::AdapterMatrix& m, int64_t rows, int64_t columns, int64_t offset,
                           const char* which) {
      require(m.rows == rows && m.columns == columns, ErrorKind::Input,
              "{}: layer {} {}: lora_{} is [{}, {}], this base needs [{}, {}]; an adapter for another base?",
              adapter.path().string(), slot.layer, slot.module, which, m.rows, m.columns, rows, columns);
      const std::vector<float> f = m.floats();
      std::copy(f.begin(), f.end(), values.data_ptr<float>() + offset);
    };
    place(found->second.a, slot.rank, slot.k, slot.offset_a, "A");
    place(found->second.b, slot.n, slot.rank, slot.offset_b, "B");
  }
  out.values_ = values.to(device);
  return out;
}

void Lora::save(const std::filesystem::path& directory, const std::string& base_name) const {
  const at::Tensor values = values_.to(at::kCPU).contiguous();
  const auto bytes = std::as_bytes(std::span(values.data_ptr<float>(), static_cast<size_t>(values.numel())));
  std::vector<formats::OutputTensor> tensors;
  for (const auto& slot : slots_) {
    const auto module = formats::parse_llama_module(slot.module);
    const auto add = [&](formats::LoraSide side, int64_t rows, int64_t columns, int64_t offset) {
      tensors.push_back({formats::peft_tensor_name(slot.layer, module, side),
                         formats::Dtype::F32,
                         {rows, columns},
                         bytes.subspan(static_cast<size_t>(offset) * 4, static_cast<size_t>(rows * columns) * 4)});
    };
    add(formats::LoraSide::A, slot.rank, slot.k, slot.offset_a);
    add(formats::LoraSide::B, slot.n, slot.rank, slot.offset_b);
  }
  formats::write_peft_adapter(
      directory, {spec_.rank, spec_.alpha, spec_.dropout, spec_.rank_stabilized, spec_.targets, base_name}, tensors);
}

void Lora::enable_training() {
  gradients_ = at::zeros_like(values_);
}

at::Tensor Lora::gradients(int64_t first, int64_t last) const {
  const auto begin_of = [&](int64_t layer) {
    const auto slot = std::ranges::lower_bound(slots_, layer, {}, &Slot::layer);
    return slot != slots_.end() ? slot->offset_a : size();
  };
  return gradients_.narrow(0, begin_of(first), begin_of(last) - begin_of(first));
}

ops::LoraPair Lora::pair(int64_t layer, const std::string& module) const {
  const auto at =
      std::find_if(slots_.begin(), slots_.end(), [&](const Slot& s) { return s.layer == layer && s.module == module; });
  if (at == slots_.end()) return {};
  const auto view = [&](const at::Tensor& flat, int64_t offset, int64_t rows, int64_t columns) {
    return flat.defined() ? flat.narrow(0, offset, rows * columns).view({rows, columns}) : at::Tensor();
  };
  return {view(values_, at->offset_a, at->rank, at->k), view(values_, at->offset_b, at->n, at->rank),
          view(gradients_, at->offset_a, at->rank, at->k), view(gradients_, at->offset_b, at->n, at->rank),
          spec_.scale()};
}

}  // namespace slmi::model
