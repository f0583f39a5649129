// Detection of the vector instructions, and the override by SLMI_FORCE_SIMD.
#include "slmi/kernels/cpu/simd.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

#include "slmi/base/error.h"

namespace slmi::kernels::cpu {

namespace {

struct CpuidRegisters {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

CpuidRegisters cpuid(uint32_t leaf, uint32_t subleaf) {
  CpuidRegisters r;
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);  // leaves zeros where the leaf does not exist
  return r;
}

constexpr bool bit(uint32_t word, int index) {
  return ((word >> index) & 1u) != 0;
}

/// XCR0: the register states that the operating system saves. Needs OSXSAVE.
uint64_t saved_states() {
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

/// Linux saves a process's tiles only after it has asked for them (Documentation/arch/x86/xstate.rst).
bool tiles_allowed() {
  constexpr long kArchReqXcompPerm = 0x1023, kXtiledata = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXtiledata) == 0;
}

constexpr std::string_view kExpected = "scalar, avx2 or avx512, with +vnni, +bf16, +vbmi, +amx as the level has them";

}  // namespace

Simd detect_simd() {
  Simd out;
  const CpuidRegisters basic = cpuid(1, 0);
  const CpuidRegisters extended = cpuid(7, 0);
  const CpuidRegisters extended1 = extended.a >= 1 ? cpuid(7, 1) : CpuidRegisters{};
  if (!bit(basic.c, 27)) return out;  // OSXSAVE
  const uint64_t states = saved_states();
  const bool ymm = (states & 0x06) == 0x06;
  const bool zmm = (states & 0xe6) == 0xe6;
  const bool avx2 =
      bit(basic.c, 28) && bit(basic.c, 12) && bit(basic.c, 29) && bit(extended.b, 5) && bit(extended.b, 8);
  if (!ymm || !avx2) return out;
  out.level = SimdLevel::Avx2;
  const bool avx512 = bit(extended.b, 16) && bit(extended.b, 17) && bit(extended.b, 30) && bit(extended.b, 31);
  if (!zmm || !avx512) {
    out.vnni = bit(extended1.a, 4);
    return out;
  }
  out.level = SimdLevel::Avx512;
  out.vnni = bit(extended.c, 11);
  out.bf16 = bit(extended1.a, 5);
  out.vbmi = bit(extended.c, 1);
  const bool tiles = (states & 0x60000) == 0x60000 && bit(extended.d, 24) && bit(extended.d, 22);
  out.amx = out.bf16 && tiles && tiles_allowed();
  return out;
}

Simd parse_simd(std::string_view text) {
  const auto take = [&text] {
    const size_t plus = text.find('+');
    const std::string_view head = text.substr(0, plus);
    text = plus == std::string_view::npos ? std::string_view{} : text.substr(plus + 1);
    return head;
  };
  const std::string whole(text);
  Simd out;
  const std::string_view level = take();
  if (level == "avx2") {
    out.level = SimdLevel::Avx2;
  } else if (level == "avx512") {
    out.level = SimdLevel::Avx512;
  } else {
    require(level == "scalar", ErrorKind::Usage, "SIMD set '{}' is unknown; expected {}", whole, kExpected);
  }
  const bool wide = out.level == SimdLevel::Avx512;
  require(whole.empty() || whole.back() != '+', ErrorKind::Usage, "SIMD set '{}' ends in '+'; expected {}", whole,
          kExpected);
  while (!text.empty()) {
    const std::string_view flag = take();
    if (flag == "vnni" && out.level != SimdLevel::Scalar) {
      out.vnni = true;
    } else if (flag == "bf16" && wide) {
      out.bf16 = true;
    } else if (flag == "vbmi" && wide) {
      out.vbmi = true;
    } else if (flag == "amx" && wide) {
      out.amx = true;
    } else {
      fail(ErrorKind::Usage, "SIMD set '{}': '+{}' is not a flag of level {}; expected {}", whole, flag, level,
           kExpected);
    }
  }
  require(out.bf16 || !out.amx, ErrorKind::Usage, "SIMD set '{}': '+amx' goes with '+bf16'; expected {}", whole,
          kExpected);
  return out;
}

bool simd_supports(const Simd& have, const Simd& wanted) {
  if (wanted.level > have.level) return false;
  // AVX-VNNI on a CPU with AVX-512 is a cpuid bit of its own.
  const bool vnni = wanted.level == have.level ? have.vnni : bit(cpuid(7, 1).a, 4);
  return (!wanted.vnni || vnni) && (!wanted.bf16 || have.bf16) && (!wanted.vbmi || have.vbmi) &&
         (!wanted.amx || have.amx);
}

const Simd& simd() {
  static const Simd chosen = [] {
    const Simd have = detect_simd();
    const char* forced = std::getenv("SLMI_FORCE_SIMD");
    if (forced == nullptr || *forced == '\0') return have;
    const Simd wanted = parse_simd(forced);
    require(simd_supports(have, wanted), ErrorKind::Device,
            "SLMI_FORCE_SIMD={}: this CPU has only {}; unset it or name a smaller set", forced, name(have));
    return wanted;
  }();
  return chosen;
}

std::string name(const Simd& simd) {
  std::string out = simd.level == SimdLevel::Scalar ? "scalar" : simd.level == SimdLevel::Avx2 ? "avx2" : "avx512";
  if (simd.vnni) out += "+vnni";
  if (simd.bf16) out += "+bf16";
  if (simd.vbmi) out += "+vbmi";
  if (simd.amx) out += "+amx";
  return out;
}

}  // namespace slmi::kernels::cpu
