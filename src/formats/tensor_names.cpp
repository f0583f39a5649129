// Tensor names and Q/K row orders of GGUF against those of Hugging Face; declared in checkpoint.h.
#include <array>
#include <charconv>
#include <cstring>
#include <utility>

#include "slmi/base/checked.h"
#include "slmi/formats/checkpoint.h"

namespace slmi::formats {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;  // GGUF, Hugging Face
constexpr std::array<Pair, 3> kModelNames = {{{"token_embd.weight", "model.embed_tokens.weight"},
                                              {"output_norm.weight", "model.norm.weight"},
                                              {"output.weight", "lm_head.weight"}}};
constexpr std::array<Pair, 9> kLayerNames = {{{"attn_norm.weight", "input_layernorm.weight"},
                                              {"attn_q.weight", "self_attn.q_proj.weight"},
                                              {"attn_k.weight", "self_attn.k_proj.weight"},
                                              {"attn_v.weight", "self_attn.v_proj.weight"},
                                              {"attn_output.weight", "self_attn.o_proj.weight"},
                                              {"ffn_norm.weight", "post_attention_layernorm.weight"},
                                              {"ffn_gate.weight", "mlp.gate_proj.weight"},
                                              {"ffn_up.weight", "mlp.up_proj.weight"},
                                              {"ffn_down.weight", "mlp.down_proj.weight"}}};
constexpr std::string_view kGgufLayer = "blk.", kHfLayer = "model.layers.";

/// Splits "PREFIX<n>.rest"; false if the name has another form ("01" included, so that names stay unique).
bool split_layer(std::string_view name, std::string_view prefix, std::string_view& number, std::string_view& rest) {
  constexpr size_t kMaxDigits = 6;
  if (!name.starts_with(prefix)) return false;
  name.remove_prefix(prefix.size());
  const auto dot = name.find('.');
  if (dot == std::string_view::npos || dot == 0 || dot > kMaxDigits) return false;
  number = name.substr(0, dot);
  rest = name.substr(dot + 1);
  return number.find_first_not_of("0123456789") == std::string_view::npos && (number == "0" || number[0] != '0');
}

template <class Move>
std::vector<std::byte> move_rows(std::span<const std::byte> bytes, int64_t num_heads, int64_t head_dim,
                                 uint64_t row_bytes, Move&& copy) {
  const auto rows = static_cast<uint64_t>(num_heads * head_dim);
  require(bytes.size() == checked_mul(rows, row_bytes) && head_dim % 2 == 0, ErrorKind::Internal,
          "{} bytes are not {} heads of {} rows of {} bytes", bytes.size(), num_heads, head_dim, row_bytes);
  std::vector<std::byte> out(bytes.size());
  const int64_t half = head_dim / 2;
  for (int64_t h = 0; h < num_heads; ++h) {
    for (int64_t i = 0; i < half; ++i) {
      for (int64_t j = 0; j < 2; ++j) copy(out.data(), h * head_dim + 2 * i + j, h * head_dim + j * half + i);
    }
  }
  return out;
}

}  // namespace

std::string hf_name_of_gguf(std::string_view gguf_name) {
  for (const auto& [gguf, hf] : kModelNames) {
    if (gguf == gguf_name) return std::string(hf);
  }
  std::string_view number, rest;
  if (!split_layer(gguf_name, kGgufLayer, number, rest)) return {};
  for (const auto& [gguf, hf] : kLayerNames) {
    if (gguf == rest) return fmt::format("{}{}.{}", kHfLayer, number, hf);
  }
  return {};
}

std::string gguf_name_of_hf(std::string_view hf_name) {
  for (const auto& [gguf, hf] : kModelNames) {
    if (hf == hf_name) return std::string(gguf);
  }
  std::string_view number, rest;
  if (!split_layer(hf_name, kHfLayer, number, rest)) return {};
  for (const auto& [gguf, hf] : kLayerNames) {
    if (hf == rest) return fmt::format("{}{}.{}", kGgufLayer, number, gguf);
  }
  return {};
}

std::vector<std::byte> rows_to_rotate_half(std::span<const std::byte> bytes, int64_t num_heads, int64_t head_dim,
                                           uint64_t row_bytes) {
  return move_rows(bytes, num_heads, head_dim, row_bytes, [&](std::byte* out, int64_t interleaved, int64_t halves) {
    std::memcpy(out + static_cast<uint64_t>(halves) * row_bytes,
                bytes.data() + static_cast<uint64_t>(interleaved) * row_bytes, row_bytes);
  });
}

std::vector<std::byte> rows_to_interleaved(std::span<const std::byte> bytes, int64_t num_heads, int64_t head_dim,
                                           uint64_t row_bytes) {
  return move_rows(bytes, num_heads, head_dim, row_bytes, [&](std::byte* out, int64_t interleaved, int64_t halves) {
    std::memcpy(out + static_cast<uint64_t>(interleaved) * row_bytes,
                bytes.data() + static_cast<uint64_t>(halves) * row_bytes, row_bytes);
  });
}

}  // namespace slmi::formats
