// Runs one codec over a raw matrix file, for check_codecs.py to compare with other implementations.
//
//   codec_dump dequantize FORMAT N K LEVEL IN OUT    packed bytes -> f32; LEVEL scalar, avx2, avx512 or auto
//   codec_dump quantize   FORMAT N K LEVEL IN OUT [IMPORTANCE]    f32 -> packed bytes; IMPORTANCE f32 [K]
//   codec_dump nf4        OFFSET N K auto  IN OUT    f32 -> codes, absmax codes, absmax2, f32 values; OFFSET as %a
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "slmi/base/error.h"
#include "slmi/kernels/cpu/dequantize.h"
#include "slmi/quant/gguf_codec.h"
#include "slmi/quant/nf4.h"

namespace {

using slmi::ErrorKind;

/// The bytes of a file, on an address that fits any block and f32.
std::vector<std::byte> read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  slmi::require(in.good(), ErrorKind::Input, "{}: cannot be opened", path.string());
  std::vector<std::byte> out(std::filesystem::file_size(path));
  in.read(reinterpret_cast<char*>(out.data()), static_cast<std::streamsize>(out.size()));
  return out;
}

std::vector<float> read_floats(const std::filesystem::path& path) {
  const std::vector<std::byte> bytes = read_file(path);
  std::vector<float> out(bytes.size() / sizeof(float));
  std::memcpy(out.data(), bytes.data(), out.size() * sizeof(float));
  return out;
}

template <class T>
void write(std::ofstream& out, const std::vector<T>& values) {
  out.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
}

std::vector<float> dequantize(const std::string& format_name, int64_t n, int64_t k, const std::string& level,
                              const std::filesystem::path& in) {
  const auto format = slmi::quant::parse_weight_format(format_name);
  const std::vector<std::byte> packed = read_file(in);
  if (level == "auto") return slmi::quant::dequantize(format, packed, n, k);
  slmi::require(packed.size() == static_cast<uint64_t>(slmi::quant::matrix_bytes(format, n, k)), ErrorKind::Input,
                "{}: wrong size", in.string());
  std::vector<float> out(static_cast<size_t>(n * k));
  slmi::kernels::cpu::dequantize_rows(slmi::quant::block_format(format), packed.data(), out.data(), k, k, 0, n,
                                      slmi::kernels::cpu::parse_simd(level).level);
  return out;
}

std::vector<std::byte> quantize(const std::vector<std::string>& args, int64_t n, int64_t k) {
  const std::vector<float> importance = args.size() > 7 ? read_floats(args[7]) : std::vector<float>{};
  slmi::quant::QuantizeOptions options{.importance = importance};
  if (args[4] != "auto") options.level = slmi::kernels::cpu::parse_simd(args[4]).level;
  return slmi::quant::quantize(slmi::quant::parse_weight_format(args[1]), read_floats(args[5]), n, k, options);
}

void dump_nf4(float offset, int64_t n, int64_t k, const std::filesystem::path& in, std::ofstream& out) {
  slmi::quant::Nf4Options options;
  options.offset = offset;
  const slmi::quant::Nf4Matrix matrix = slmi::quant::nf4_quantize(read_floats(in), n, k, options);
  std::vector<float> values(static_cast<size_t>(n * k));
  slmi::quant::nf4_dequantize(matrix, values);
  write(out, matrix.codes);
  write(out, matrix.absmax_codes);
  write(out, matrix.absmax2);
  write(out, values);
}

int run(const std::vector<std::string>& args) {
  slmi::require(args.size() == 7 || (args.size() == 8 && args[0] == "quantize"), ErrorKind::Usage,
                "7 arguments expected, or 8 with importances; see the head of codec_dump.cpp");
  const int64_t n = std::stoll(args[2]);
  const int64_t k = std::stoll(args[3]);
  std::ofstream out(args[6], std::ios::binary);
  if (args[0] == "dequantize") {
    write(out, dequantize(args[1], n, k, args[4], args[5]));
  } else if (args[0] == "quantize") {
    write(out, quantize(args, n, k));
  } else if (args[0] == "nf4") {
    dump_nf4(std::strtof(args[1].c_str(), nullptr), n, k, args[5], out);
  } else {
    slmi::fail(ErrorKind::Usage, "'{}': expected dequantize, quantize or nf4", args[0]);
  }
  out.flush();
  slmi::require(out.good(), ErrorKind::Output, "{}: not written", args[6]);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    fmt::print(stderr, "codec_dump: {}\n", error.what());
    return 1;
  }
}
