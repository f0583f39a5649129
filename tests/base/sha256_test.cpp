// SHA-256 against the examples of FIPS 180-4 and NIST's long message, and against itself in pieces.
#include "slmi/base/sha256.h"

#include <gtest/gtest.h>

namespace slmi {
namespace {

TEST(Sha256, PublishedVectors) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, LengthsAroundTheBlockAndThePadding) {
  // Python: hashlib.sha256(b"".join(hashlib.sha256(b"x" * n).hexdigest().encode() for n in range(130))).hexdigest()
  Sha256 all;
  for (size_t n = 0; n < 130; ++n) all.update(sha256_hex(std::string(n, 'x')));
  EXPECT_EQ(all.hex(), "199af942eba7fa5d1e16d475169eb24018b14e69339c93d26a9ea6d873b4ace6");
}

TEST(Sha256, PiecesDoNotMatter) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += static_cast<char>(i * 7);
  for (size_t piece : {1u, 3u, 63u, 64u, 65u, 127u, 500u}) {
    Sha256 hash;
    for (size_t at = 0; at < text.size(); at += piece) hash.update(std::string_view(text).substr(at, piece));
    EXPECT_EQ(hash.hex(), sha256_hex(text)) << piece;
  }
}

TEST(Sha256, AnEmptyPieceInTheMiddleOfABlockChangesNothing) {
  Sha256 hash;
  hash.update("ab");
  hash.update(std::span<const std::byte>());
  hash.update("c");
  EXPECT_EQ(hash.hex(), sha256_hex("abc"));
}

TEST(Sha256, IntegersAreLittleEndian) {
  Sha256 hash;
  hash.update_u64(0x0102030405060708ull);
  EXPECT_EQ(hash.hex(), sha256_hex("\x08\x07\x06\x05\x04\x03\x02\x01"));
}

}  // namespace
}  // namespace slmi
