// The 256 values that 8-bit codes stand for, in NF4's doubly quantized scales and in AdamW's 8-bit moments.
//
// Source  Dettmers et al. 2021, "8-bit Optimizers via Block-wise Quantization", arXiv:2110.02861 (dynamic tree);
//         bits as bitsandbytes' create_dynamic_map.
#pragma once

#include <array>

namespace slmi::kernels {

using DynamicMap = std::array<float, 256>;

/// Ascending: for i in 0..6 the 2^i midpoints of linspace(0.1, 1, 2^i + 1) times 10^(i-6), both signs, and 0 and 1.
/// There is no -1.
const DynamicMap& dynamic_map();
/// Without a sign: the 2^(i+1) midpoints of linspace(0.1, 1, 2^(i+1) + 1) times 10^(i-6), and 0 and 1. Value 0 is 0.
const DynamicMap& unsigned_dynamic_map();

/// Midpoints of neighbours in f32: a value takes as its code how many of them lie below it.
std::array<float, 255> borders_of(const DynamicMap& map);

}  // namespace slmi::kernels
