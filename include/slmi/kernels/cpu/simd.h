// Which vector instructions the CPU kernels use: found at run time, so that one binary serves every x86-64.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace slmi::kernels::cpu {

/// Sets of kernels, each a superset of the one before.
enum class SimdLevel {
  Scalar,  // the reference; any x86-64
  Avx2,    // AVX2, FMA, F16C, BMI2
  Avx512,  // Avx2 and AVX-512 F, BW, VL, DQ
};

/// What the kernels may use. The flags are false at level Scalar.
struct Simd {
  SimdLevel level = SimdLevel::Scalar;
  bool vnni = false;  // u8 x i8 dot products: AVX512_VNNI at level Avx512, AVX-VNNI (VEX-coded, 256 bits) at level Avx2
  bool bf16 = false;  // AVX512_BF16; level Avx512 only
  bool vbmi = false;  // AVX512_VBMI (byte permutes); level Avx512 only
  bool amx = false;   // AMX_TILE and AMX_BF16, which the operating system lets this process use; beside bf16 only

  bool operator==(const Simd&) const = default;
};

/// What this CPU and operating system have (cpuid, xgetbv, and on Linux leave to use AMX); ignores the environment.
Simd detect_simd();

/// The set in use: SLMI_FORCE_SIMD if that is set, else detect_simd(). Decided at the first call, the same ever after.
/// Throws Error{Usage} for a value of SLMI_FORCE_SIMD that is no set, Error{Device} for one that this CPU lacks.
const Simd& simd();

/// Parses "scalar", "avx2", "avx512", each with any of "+vnni", "+bf16", "+vbmi", "+amx" that its level has; throws
/// Error{Usage}. A flag not named is off, so that the road of an older CPU can be tried on a newer one.
Simd parse_simd(std::string_view text);

/// True if every set and flag of `wanted` is in `have` (AVX-VNNI is not told from AVX512_VNNI: see detect_simd).
bool simd_supports(const Simd& have, const Simd& wanted);

/// "avx512+vnni+bf16+vbmi+amx", ...: the form that parse_simd reads, for --version and reports.
std::string name(const Simd& simd);

}  // namespace slmi::kernels::cpu
