// Bounds of a plausible model, so that a broken config is named as such and nothing huge is allocated. Internal to
// formats.
#pragma once

#include <cstdint>
#include <vector>

#include "config_fields.h"
#include "slmi/formats/llama_config.h"

namespace slmi::formats {

inline constexpr int64_t kMaxWidth = 1 << 20;
inline constexpr int64_t kMaxLayers = 1024;
inline constexpr int64_t kMaxHeads = 4096;
inline constexpr int64_t kMaxHeadDim = 4096;
inline constexpr int64_t kMaxVocabulary = 1 << 24;
inline constexpr int64_t kMaxPositions = int64_t{1} << 31;  // positions are i32 in the program
inline constexpr double kMaxRopeTheta = 1e12;
inline constexpr double kMinRopeFactor = 1e-3, kMaxRopeFactor = 1e6;

/// What must hold between the sizes, wherever they come from.
void check_llama_shape(const LlamaConfig& config, Problems& problems);
/// null, a number, or a list: as transformers writes it.
Json eos_to_json(const std::vector<int64_t>& ids);

}  // namespace slmi::formats
