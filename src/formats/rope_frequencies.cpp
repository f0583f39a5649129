// Inverse frequencies of the rotary embedding, with the arithmetic of transformers (modeling_rope_utils.py).
#include <cmath>
#include <numbers>

#include "slmi/base/error.h"
#include "slmi/formats/llama_config.h"

namespace slmi::formats {
namespace {

/// Llama 3.1's rule (llama-models, models/llama3/model.py, apply_scaling; the factors are the config's, never
/// constants). Scalars are f64, as Python's are, and enter each f32 operation rounded to f32, as torch does it.
float llama3_scaled(float f, const RopeScaling& rope) {
  const auto factor = static_cast<float>(rope.factor);
  const auto context = static_cast<double>(rope.original_max_position_embeddings);
  const auto low_wavelength = static_cast<float>(context / rope.low_freq_factor);
  const auto high_wavelength = static_cast<float>(context / rope.high_freq_factor);
  const float wavelength =
      (1.0f / f) * static_cast<float>(2.0 * std::numbers::pi);  // number / tensor, in torch's order
  if (wavelength > low_wavelength) return f / factor;
  if (wavelength < high_wavelength) return f;
  const float ratio = (1.0f / wavelength) * static_cast<float>(context);
  const float smooth = (ratio - static_cast<float>(rope.low_freq_factor)) /
                       static_cast<float>(rope.high_freq_factor - rope.low_freq_factor);
  return (1.0f - smooth) * f / factor + smooth * f;
}

}  // namespace

std::vector<float> LlamaConfig::rope_inv_freq() const {
  const auto half = static_cast<size_t>(head_dim / 2);
  const bool sized = rope_scaling.kind != RopeScalingKind::Divisors || rope_scaling.divisors.size() == half;
  require(sized, ErrorKind::Input, "{} rope divisors for a head width of {}; expected {}", rope_scaling.divisors.size(),
          head_dim, half);
  std::vector<float> out(half);
  for (size_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    // The f32 power of torch is right to the last bit in nearly all cases; so is one rounded from f64.
    const auto power = static_cast<float>(std::pow(static_cast<double>(static_cast<float>(rope_theta)), exponent));
    const float f = 1.0f / power;
    switch (rope_scaling.kind) {
      case RopeScalingKind::None:
        out[i] = f;
        break;
      case RopeScalingKind::Linear:
        out[i] = f / static_cast<float>(rope_scaling.factor);
        break;
      case RopeScalingKind::Llama3:
        out[i] = llama3_scaled(f, rope_scaling);
        break;
      case RopeScalingKind::Divisors:
        out[i] = f / rope_scaling.divisors[i];
        break;
    }
  }
  return out;
}

}  // namespace slmi::formats
