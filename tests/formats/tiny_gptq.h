// A small random GPTQ model for the tests: planes of every projection, written as a directory.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "slmi/base/half.h"
#include "tiny_model.h"

namespace slmi::formats {

/// Dimensions that GPTQ can hold: multiples of 32.
inline LlamaConfig tiny_gptq_config() {
  LlamaConfig c = tiny_config();
  c.hidden_size = 64;
  c.intermediate_size = 96;
  c.num_heads = 8;
  c.num_kv_heads = 4;
  return c;
}

class TinyGptq {
 public:
  /// Groups of 32, each input in a random one with desc_act; zeros of 8 with sym, any other than 0 without.
  explicit TinyGptq(const GptqConfig& gptq, const LlamaConfig& config = tiny_gptq_config())
      : config_(config), gptq_(gptq) {
    Random random(7);
    for (const auto& t : expected_tensors(config)) {
      if (t.name.ends_with("_proj.weight"))
        codes_[t.name] = random_codes(random, t.shape);
      else
        numbers_[t.name] = random_numbers(random, t.shape);
    }
    for (const auto& [name, codes] : codes_) planes_[name] = quant::gptq_pack(codes, gptq.label);
  }

  const GptqConfig& gptq() const { return gptq_; }
  const LlamaConfig& config() const { return config_; }
  const std::map<std::string, quant::GptqCodes>& codes() const { return codes_; }
  std::map<std::string, quant::GptqPlanes>& planes() { return planes_; }

  /// Values by the formula, [N, K].
  std::vector<float> values(const std::string& name) const {
    const auto& m = codes_.at(name);
    std::vector<float> out;
    for (int64_t row = 0; row < m.n; ++row) {
      for (int64_t i = 0; i < m.k; ++i) {
        const auto at = static_cast<size_t>(row * m.groups + m.g_idx[static_cast<size_t>(i)]);
        out.push_back(m.scales[at] * static_cast<float>(m.codes[static_cast<size_t>(row * m.k + i)] - m.zeros[at]));
      }
    }
    return out;
  }

  std::vector<OutputTensor> tensors() const {
    std::vector<OutputTensor> out;
    for (const auto& t : expected_tensors(config_)) {
      if (const auto found = planes_.find(t.name); found != planes_.end()) {
        const std::string module = t.name.substr(0, t.name.size() - std::string(".weight").size());
        for (auto& tensor : gptq_tensors(module, found->second.view())) out.push_back(std::move(tensor));
      } else {
        out.push_back({t.name, Dtype::F16, t.shape, std::as_bytes(std::span(numbers_.at(t.name)))});
      }
    }
    return out;
  }

  void write(const std::filesystem::path& directory) const {
    HfWriteOptions options;
    options.dtype = "float16";
    options.quantization = gptq_.to_json();
    write_hf_directory(directory, config_, tensors(), Provenance{}, options);
  }

 private:
  static constexpr int64_t kGroup = 32;

  quant::GptqCodes random_codes(Random& random, const Shape& shape) const {
    quant::GptqCodes m;
    m.n = shape[0];
    m.k = shape[1];
    m.groups = m.k / kGroup;
    const auto below = [&](uint64_t n) { return random.next() % n; };
    for (int64_t i = 0; i < m.n * m.k; ++i) m.codes.push_back(static_cast<uint8_t>(below(16)));
    for (int64_t i = 0; i < m.n * m.groups; ++i) {
      m.scales.push_back(f16_to_f32(f32_to_f16(0.001f + 0.01f * static_cast<float>(random.uniform()))));
      m.zeros.push_back(gptq_.sym ? quant::kGptqSymmetricZero : static_cast<uint8_t>(1 + below(15)));
    }
    for (int64_t i = 0; i < m.k; ++i)
      m.g_idx.push_back(static_cast<int32_t>(gptq_.desc_act ? below(static_cast<uint64_t>(m.groups))
                                                            : static_cast<uint64_t>(i / kGroup)));
    return m;
  }

  static std::vector<uint16_t> random_numbers(Random& random, const Shape& shape) {
    std::vector<uint16_t> out;
    for (uint64_t i = 0; i < num_elements(shape); ++i)
      out.push_back(f32_to_f16(0.5f + 0.5f * static_cast<float>(random.uniform())));
    return out;
  }

  LlamaConfig config_;
  GptqConfig gptq_;
  std::map<std::string, quant::GptqCodes> codes_;
  std::map<std::string, quant::GptqPlanes> planes_;
  std::map<std::string, std::vector<uint16_t>> numbers_;
};

}  // namespace slmi::formats
