// Bounds-checked reading; see the header.
#include "slmi/base/byte_reader.h"

namespace slmi {

std::span<const std::byte> ByteReader::read_bytes(uint64_t n, std::string_view what) {
  require(n <= remaining(), "{} needs {} bytes, {} left; cut short, copy it again", what, n, remaining());
  const auto out = bytes_.subspan(position_, n);
  position_ += n;
  return out;
}

void ByteReader::seek(uint64_t position) {
  require(position <= size(), "position {} lies past the end ({} bytes)", position, size());
  position_ = position;
}

}  // namespace slmi
