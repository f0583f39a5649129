// Bounds-checked reading and arithmetic that does not wrap.
#include "slmi/base/byte_reader.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "expect_error.h"
#include "slmi/base/checked.h"

namespace slmi {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

std::vector<std::byte> bytes_to(int n) {
  std::vector<std::byte> out;
  for (int i = 1; i <= n; ++i) out.push_back(static_cast<std::byte>(i));
  return out;
}

TEST(ByteReader, IntegersAreLittleEndianAndUnaligned) {
  const auto bytes = bytes_to(13);
  ByteReader in(bytes, "f");
  EXPECT_EQ(in.read_u8("a"), 0x01u);
  EXPECT_EQ(in.read_u32("b"), 0x05040302u);
  EXPECT_EQ(in.read_u64("c"), 0x0D0C0B0A09080706ull);
  EXPECT_EQ(in.position(), 13u);
  EXPECT_EQ(in.remaining(), 0u);
}

TEST(ByteReader, PastTheEndNamesSourceByteWantAndRest) {
  const auto bytes = bytes_to(6);
  ByteReader in(bytes, "model.gguf");
  in.read_u32("magic");
  SLMI_EXPECT_ERROR(Input, "model.gguf: byte 4: version needs 4 bytes, 2 left", in.read_u32("version"));
  EXPECT_EQ(in.position(), 4u);  // a failed read moves nothing
  SLMI_EXPECT_ERROR(Input, "needs 18446744073709551615 bytes, 2 left", in.read_bytes(kMax, "name"));
  EXPECT_EQ(in.read_bytes(2, "rest").size(), 2u);
  EXPECT_EQ(in.read_bytes(0, "nothing").size(), 0u);
  SLMI_EXPECT_ERROR(Input, "byte 6: more needs 1 bytes, 0 left", in.read_u8("more"));
}

TEST(ByteReader, BytesAreNotCopied) {
  const auto bytes = bytes_to(4);
  ByteReader in(bytes, "f");
  in.seek(1);
  EXPECT_EQ(in.read_bytes(2, "x").data(), bytes.data() + 1);
}

TEST(ByteReader, SeekUpToTheEndOnly) {
  const auto bytes = bytes_to(4);
  ByteReader in(bytes, "f");
  in.seek(4);
  EXPECT_EQ(in.remaining(), 0u);
  SLMI_EXPECT_ERROR(Input, "position 5 lies past the end (4 bytes)", in.seek(5));
  SLMI_EXPECT_ERROR(Input, "lies past the end", in.seek(kMax));
  in.seek(0);
  EXPECT_EQ(in.read_u8("x"), 1u);
}

TEST(ByteReader, RequireAndFailNameThePlace) {
  const auto bytes = bytes_to(4);
  ByteReader in(bytes, "f");
  in.seek(3);
  EXPECT_NO_THROW(in.require(true, "never"));
  SLMI_EXPECT_ERROR(Input, "f: byte 3: bad count 7", in.require(false, "bad count {}", 7));
}

TEST(ByteReader, EmptyInput) {
  ByteReader in({}, "f");
  SLMI_EXPECT_ERROR(Input, "f: byte 0: x needs 1 bytes, 0 left", in.read_u8("x"));
}

TEST(Checked, ResultsAndOverflow) {
  EXPECT_EQ(checked_mul(1ull << 32, (1ull << 32) - 1), (1ull << 32) * ((1ull << 32) - 1));
  SLMI_EXPECT_ERROR(Input, "size overflow: 4294967296 * 4294967296", checked_mul(1ull << 32, 1ull << 32));
  EXPECT_EQ(checked_mul(0, kMax), 0u);
  EXPECT_EQ(checked_add(kMax - 1, 1), kMax);
  SLMI_EXPECT_ERROR(Input, "size overflow: 18446744073709551615 + 1", checked_add(kMax, 1));
}

TEST(Checked, ProductOfDimensions) {
  const std::vector<uint64_t> none, dims = {3, 5, 7}, wraps_to_zero = {1ull << 32, 1ull << 32},
                                    zero_late = {1ull << 40, 1ull << 40, 0};
  EXPECT_EQ(checked_product(none), 1u);
  EXPECT_EQ(checked_product(dims), 105u);
  SLMI_EXPECT_ERROR(Input, "size overflow", checked_product(wraps_to_zero));
  SLMI_EXPECT_ERROR(Input, "size overflow", checked_product(zero_late));
}

TEST(Checked, Align) {
  EXPECT_EQ(checked_align(0, 32), 0u);
  EXPECT_EQ(checked_align(1, 32), 32u);
  EXPECT_EQ(checked_align(32, 32), 32u);
  EXPECT_EQ(checked_align(33, 8), 40u);
  EXPECT_EQ(checked_align(kMax, 1), kMax);
  SLMI_EXPECT_ERROR(Input, "size overflow", checked_align(kMax - 1, 32));
}

}  // namespace
}  // namespace slmi
