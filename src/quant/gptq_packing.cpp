// GPTQ planes: packing, unpacking, dequantization by tiles of rows; see the header.
#include "slmi/quant/gptq_packing.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "slmi/base/checked.h"
#include "slmi/base/half.h"

namespace slmi::quant {
namespace {

constexpr int64_t kPerWord = 8;  // nibbles of a u32

template <class T>
T load(std::span<const std::byte> plane, int64_t index) {
  T out;
  std::memcpy(&out, plane.data() + static_cast<size_t>(index) * sizeof(T), sizeof(T));
  return out;
}

uint32_t nibble(uint32_t word, int64_t j) {
  return (word >> (4 * j)) & 15u;
}

uint64_t scale_bytes(GptqScales type) {
  return type == GptqScales::F32 ? sizeof(float) : sizeof(uint16_t);
}

float scale_at(const GptqView& view, int64_t group, int64_t row) {
  const int64_t at = group * view.n + row;
  switch (view.scale_type) {
    case GptqScales::F16:
      return f16_to_f32(load<uint16_t>(view.scales, at));
    case GptqScales::BF16:
      return bf16_to_f32(load<uint16_t>(view.scales, at));
    case GptqScales::F32:
      break;
  }
  return load<float>(view.scales, at);
}

uint8_t zero_at(const GptqView& view, int64_t group, int64_t row) {
  const uint32_t word = load<uint32_t>(view.qzeros, group * (view.n / kPerWord) + row / kPerWord);
  const uint32_t stored = nibble(word, row % kPerWord);
  return static_cast<uint8_t>(view.zeros == GptqZeros::MinusOne ? (stored + 1) & 15u : stored);
}

int64_t group_of(const GptqView& view, int64_t input) {
  return view.g_idx.empty() ? input / view.group_size : load<int32_t>(view.g_idx, input);
}

void check_shape(int64_t n, int64_t k, int64_t groups, std::string_view what) {
  require(n > 0 && k > 0 && n % kGptqMultiple == 0 && k % kGptqMultiple == 0, ErrorKind::Input,
          "{}: GPTQ matrix [{}, {}]: dimensions must be multiples of {}", what, n, k, kGptqMultiple);
  require(groups > 0 && groups <= k, ErrorKind::Input, "{}: GPTQ matrix [{}, {}]: {} groups; expected 1 to {}", what, n,
          k, groups, k);
}

void store(float value, float* out) {
  *out = value;
}
void store(float value, uint16_t* out) {
  *out = f32_to_bf16(value);
}

/// Outputs dequantized together: a cache line of each row of qweight.
constexpr int64_t kTile = 16;

/// Scale and zero of a tile's rows in every group, [groups, kTile].
struct TileTable {
  std::vector<float> scale, zero;

  TileTable(const GptqView& view, int64_t row, int64_t rows) {
    scale.resize(static_cast<size_t>(view.groups * kTile));
    zero.resize(scale.size());
    for (int64_t g = 0; g < view.groups; ++g) {
      for (int64_t t = 0; t < rows; ++t) {
        scale[static_cast<size_t>(g * kTile + t)] = scale_at(view, g, row + t);
        zero[static_cast<size_t>(g * kTile + t)] = static_cast<float>(zero_at(view, g, row + t));
      }
    }
  }
};

template <class T>
void dequantize_tile(const GptqView& view, std::span<const int64_t> table_row, int64_t row, int64_t rows, T* out,
                     int64_t stride) {
  const TileTable table(view, row, rows);
  for (int64_t r = 0; r < view.k / kPerWord; ++r) {
    for (int64_t t = 0; t < rows; ++t) {
      const uint32_t word = load<uint32_t>(view.qweight, r * view.n + row + t);
      T* to = out + t * stride + r * kPerWord;
      for (int64_t j = 0; j < kPerWord; ++j) {
        const auto at = static_cast<size_t>(table_row[static_cast<size_t>(r * kPerWord + j)] + t);
        store(table.scale[at] * (static_cast<float>(nibble(word, j)) - table.zero[at]), to + j);
      }
    }
  }
}

template <class T>
void dequantize(const GptqView& view, T* out, int64_t stride, int64_t row_begin, int64_t row_end) {
  std::vector<int64_t> table_row(static_cast<size_t>(view.k));
  for (int64_t i = 0; i < view.k; ++i) table_row[static_cast<size_t>(i)] = group_of(view, i) * kTile;
  for (int64_t row = row_begin; row < row_end; row += kTile) {
    dequantize_tile(view, table_row, row, std::min(kTile, row_end - row), out + (row - row_begin) * stride, stride);
  }
}

void check_codes(const GptqCodes& m, GptqZeros form) {
  check_shape(m.n, m.k, m.groups, "packing");
  const auto fits = [&](const char* plane, size_t got, int64_t want) {
    require(got == static_cast<uint64_t>(want), ErrorKind::Input, "packing GPTQ [{}, {}]: {} has {} entries, needs {}",
            m.n, m.k, plane, got, want);
  };
  fits("codes", m.codes.size(), m.n * m.k);
  fits("scales", m.scales.size(), m.n * m.groups);
  fits("zeros", m.zeros.size(), m.n * m.groups);
  fits("g_idx", m.g_idx.size(), m.k);
  const auto above = [](uint8_t v) { return v > 15; };
  require(std::none_of(m.codes.begin(), m.codes.end(), above) && std::none_of(m.zeros.begin(), m.zeros.end(), above),
          ErrorKind::Input, "packing GPTQ [{}, {}]: a code or a zero is above 15", m.n, m.k);
  require(form == GptqZeros::AsIs || std::find(m.zeros.begin(), m.zeros.end(), 0) == m.zeros.end(), ErrorKind::Input,
          "packing GPTQ [{}, {}]: a zero of 0 does not fit version 1 of the format, which stores zero - 1", m.n, m.k);
  for (const float s : m.scales)
    require(f16_to_f32(f32_to_f16(s)) == s, ErrorKind::Input, "packing GPTQ [{}, {}]: scale {:g} is no f16 number", m.n,
            m.k, s);
  for (const int32_t g : m.g_idx)
    require(g >= 0 && g < m.groups, ErrorKind::Input, "packing GPTQ [{}, {}]: g_idx names group {} of {}", m.n, m.k, g,
            m.groups);
}

}  // namespace

GptqView GptqPlanes::view() const {
  GptqView out;
  out.n = n;
  out.k = k;
  out.groups = groups;
  out.zeros = zeros_form;
  out.qweight = std::as_bytes(std::span(qweight));
  out.qzeros = std::as_bytes(std::span(qzeros));
  out.scales = std::as_bytes(std::span(scales));
  out.g_idx = std::as_bytes(std::span(g_idx));
  return out;
}

void gptq_check(const GptqView& view, std::string_view what) {
  check_shape(view.n, view.k, view.groups, what);
  const auto n = static_cast<uint64_t>(view.n), k = static_cast<uint64_t>(view.k),
             groups = static_cast<uint64_t>(view.groups);
  const auto fits = [&](const char* plane, uint64_t got, uint64_t want) {
    require(got == want, ErrorKind::Input, "{}: GPTQ matrix [{}, {}] with {} groups: {} has {} bytes, needs {}", what,
            view.n, view.k, view.groups, plane, got, want);
  };
  fits("qweight", view.qweight.size(), checked_mul(k / kPerWord * sizeof(uint32_t), n));
  fits("qzeros", view.qzeros.size(), checked_mul(groups * sizeof(uint32_t), n / kPerWord));
  fits("scales", view.scales.size(), checked_mul(groups * scale_bytes(view.scale_type), n));
  if (view.g_idx.empty()) {
    require(view.group_size > 0 && (view.k + view.group_size - 1) / view.group_size == view.groups, ErrorKind::Input,
            "{}: GPTQ matrix [{}, {}]: groups of {} inputs, but scales of {} groups", what, view.n, view.k,
            view.group_size, view.groups);
  } else {
    fits("g_idx", view.g_idx.size(), k * sizeof(int32_t));
    for (int64_t i = 0; i < view.k; ++i) {
      const int64_t g = group_of(view, i);
      require(g >= 0 && g < view.groups, ErrorKind::Input, "{}: g_idx[{}] = {}; there are {} groups", what, i, g,
              view.groups);
    }
  }
  for (int64_t g = 0; g < view.groups; ++g) {
    for (int64_t row = 0; row < view.n; ++row)
      require(std::isfinite(scale_at(view, g, row)), ErrorKind::Input, "{}: the scale of group {}, output {} is {}",
              what, g, row, scale_at(view, g, row));
  }
}

GptqPlanes gptq_pack(const GptqCodes& m, GptqZeros form) {
  check_codes(m, form);
  GptqPlanes out;
  out.n = m.n;
  out.k = m.k;
  out.groups = m.groups;
  out.zeros_form = form;
  out.g_idx = m.g_idx;
  out.qweight.assign(static_cast<size_t>(m.k / kPerWord * m.n), 0);
  out.qzeros.assign(static_cast<size_t>(m.groups * (m.n / kPerWord)), 0);
  out.scales.resize(static_cast<size_t>(m.groups * m.n));
  const uint32_t below = form == GptqZeros::MinusOne ? 1 : 0;
  for (int64_t row = 0; row < m.n; ++row) {
    const uint8_t* codes = m.codes.data() + row * m.k;
    for (int64_t i = 0; i < m.k; ++i)
      out.qweight[static_cast<size_t>(i / kPerWord * m.n + row)] |= static_cast<uint32_t>(codes[i]) << 4 * (i % 8);
    for (int64_t g = 0; g < m.groups; ++g) {
      const auto at = static_cast<size_t>(row * m.groups + g);
      out.scales[static_cast<size_t>(g * m.n + row)] = f32_to_f16(m.scales[at]);
      out.qzeros[static_cast<size_t>(g * (m.n / kPerWord) + row / kPerWord)] |= (m.zeros[at] - below) << 4 * (row % 8);
    }
  }
  return out;
}

GptqCodes gptq_unpack(const GptqView& view) {
  GptqCodes out;
  out.n = view.n;
  out.k = view.k;
  out.groups = view.groups;
  for (int64_t row = 0; row < view.n; ++row) {
    for (int64_t i = 0; i < view.k; ++i) {
      const uint32_t word = load<uint32_t>(view.qweight, i / kPerWord * view.n + row);
      out.codes.push_back(static_cast<uint8_t>(nibble(word, i % kPerWord)));
    }
    for (int64_t g = 0; g < view.groups; ++g) {
      out.scales.push_back(scale_at(view, g, row));
      out.zeros.push_back(zero_at(view, g, row));
    }
  }
  for (int64_t i = 0; i < view.k; ++i) out.g_idx.push_back(static_cast<int32_t>(group_of(view, i)));
  return out;
}

void gptq_groups(const GptqView& view, float* scales, float* zeros, int64_t* g_idx) {
  for (int64_t g = 0; g < view.groups; ++g) {
    for (int64_t row = 0; row < view.n; ++row) {
      scales[g * view.n + row] = scale_at(view, g, row);
      zeros[g * view.n + row] = static_cast<float>(zero_at(view, g, row));
    }
  }
  for (int64_t i = 0; i < view.k; ++i) g_idx[i] = group_of(view, i);
}

void gptq_dequantize_rows(const GptqView& view, float* out, int64_t stride, int64_t row_begin, int64_t row_end) {
  dequantize(view, out, stride, row_begin, row_end);
}

void gptq_dequantize_rows(const GptqView& view, uint16_t* out, int64_t stride, int64_t row_begin, int64_t row_end) {
  dequantize(view, out, stride, row_begin, row_end);
}

}  // namespace slmi::quant
