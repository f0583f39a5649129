// GGUF: the gguf package's files, round trips, and each kind of broken file by name.
#include "slmi/formats/gguf.h"

#include "test_files.h"

namespace slmi::formats {
namespace {

using quant::WeightFormat;

/// Writes GGUF pieces by hand, so that each can be wrong.
class Bytes {
 public:
  template <class T>
  Bytes& raw(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  Bytes& u32(uint32_t v) { return raw(v); }
  Bytes& u64(uint64_t v) { return raw(v); }
  Bytes& string(std::string_view v) {
    raw<uint64_t>(v.size());
    text_ += v;
    return *this;
  }
  Bytes& header(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    text_ += "GGUF";
    return u32(version).u64(tensors).u64(keys);
  }
  Bytes& tensor(std::string_view name, std::vector<uint64_t> dims, uint32_t type, uint64_t offset) {
    string(name).u32(static_cast<uint32_t>(dims.size()));
    for (uint64_t d : dims) u64(d);
    return u32(type).u64(offset);
  }
  Bytes& pad(uint64_t alignment = 32) {
    text_.resize((text_.size() + alignment - 1) / alignment * alignment, '\0');
    return *this;
  }
  Bytes& zeros(size_t n) {
    text_.append(n, '\0');
    return *this;
  }
  operator std::string() const { return text_; }

 private:
  std::string text_;
};

constexpr uint32_t kU32 = 4, kBool = 7, kString = 8, kArray = 9;
constexpr uint32_t kF32 = 0, kQ8_0 = 8;

struct BadFile {
  const char* name;
  std::string bytes;
  std::vector<std::string> message;
};

std::string one_tensor(std::vector<uint64_t> dims, uint32_t type, uint64_t offset, size_t data) {
  return Bytes().header(1, 0).tensor("t", std::move(dims), type, offset).pad().zeros(data);
}

std::string with_alignment(uint32_t alignment, uint64_t offset) {
  return Bytes()
      .header(1, 1)
      .string("general.alignment")
      .u32(kU32)
      .u32(alignment)
      .tensor("t", {4}, kF32, offset)
      .zeros(512);
}

std::vector<BadFile> broken_headers() {
  std::string swapped = "GGUF";
  swapped += Bytes().u32(0x03000000).u64(0).u64(0);
  return {
      {"Empty", "", {"byte 0", "the file is empty"}},
      {"MagicCut", "GG", {"byte 0", "magic needs 4 bytes, 2 left"}},
      {"Magic", "GGJT" + std::string(28, '\0'), {"byte 0", "47 47 4a 54", "expected 47 47 55 46"}},
      {"VersionCut", "GGUF\3", {"byte 4", "version needs 4 bytes"}},
      {"Version1", Bytes().header(0, 0, 1), {"version 1; expected 3"}},
      {"Version4", Bytes().header(0, 0, 4), {"version 4; expected 3"}},
      {"BigEndian", swapped, {"big-endian"}},
      {"CountsCut", "GGUF" + std::string(Bytes().u32(3).u32(1)), {"tensor count needs 8 bytes"}},
      {"TensorCount", Bytes().header(1'000'000, 0), {"tensor count 1000000, but only 0 bytes are left"}},
      {"KeyCount", Bytes().header(0, uint64_t{1} << 63), {"key count 9223372036854775808, but only 0"}},
      {"KeyCut", Bytes().header(0, 1).u64(100).zeros(20), {"key needs 100 bytes, 20 left"}},
      {"KeyLengthHuge", Bytes().header(0, 1).u64(~uint64_t{0}).zeros(20), {"key needs 18446744073709551615 bytes"}},
      {"KeyEmpty", Bytes().header(0, 1).string("").u32(kU32).u32(1), {"key is empty"}},
      {"KeyNotUtf8", Bytes().header(0, 1).string("\xff").u32(kU32).u32(1), {"key is not valid UTF-8"}},
  };
}

std::vector<BadFile> broken_values() {
  const auto key = [](const char* name) { return Bytes().header(0, 1).string(name); };
  return {
      {"ValueType", key("k").u32(13).u64(0), {"key 'k'", "value type 13 is unknown"}},
      {"ValueCut", key("k").u32(10).u32(1), {"byte", "values of u64", "4 bytes are left"}},
      {"StringPastTheEnd", key("k").u32(kString).u64(1000).zeros(8), {"k needs 1000 bytes, 8 left"}},
      {"Bool2", key("k").u32(kBool).raw<uint8_t>(2), {"key 'k'", "bool of value 2"}},
      {"ArrayTooLong", key("k").u32(kArray).u32(kU32).u64(uint64_t{1} << 62).u64(0), {"key 'k'", "values of u32"}},
      {"StringArrayTooLong", key("k").u32(kArray).u32(kString).u64(uint64_t{1} << 61).u64(0), {"key 'k'", "strings"}},
      {"StringInArrayPastTheEnd", key("k").u32(kArray).u32(kString).u64(2).string("ab").u64(9), {"k needs 9 bytes"}},
      {"BoolInArray", key("k").u32(kArray).u32(kBool).u64(2).raw<uint8_t>(1).raw<uint8_t>(7), {"bool of value 7"}},
      {"NestedArray", key("k").u32(kArray).u32(kArray).u64(1).u32(kU32).u64(0), {"key 'k'", "nested arrays"}},
      {"DuplicateKey",
       Bytes().header(0, 2).string("k").u32(kU32).u32(1).string("k").u32(kU32).u32(2),
       {"key 'k' stands twice"}},
  };
}

std::vector<BadFile> broken_tensors() {
  const std::string name64(64, 'n'), name63(63, 'n');
  const uint64_t big = uint64_t{1} << 32;
  return {
      {"NameTooLong", Bytes().header(1, 0).tensor(name64, {4}, kF32, 0).pad().zeros(16), {"64 bytes; at most 63"}},
      {"NoDims", one_tensor({}, kF32, 0, 16), {"tensor 't'", "0 dimensions"}},
      {"TooManyDims", one_tensor({1, 1, 1, 1, 1}, kF32, 0, 16), {"tensor 't'", "5 dimensions"}},
      {"HugeDims", Bytes().header(1, 0).string("t").u32(0xffffffff).zeros(64), {"4294967295 dimensions"}},
      {"ZeroDim", one_tensor({4, 0}, kF32, 0, 16), {"tensor 't'", "dimension 1 is 0"}},
      {"DimsOverflow", one_tensor({big, big}, kF32, 0, 16), {"tensor 't'", "overflows"}},
      {"DimsOverflowSigned", one_tensor({big, big / 2}, kF32, 0, 16), {"tensor 't'", "overflows"}},
      {"SizeOverflow", one_tensor({big, big / 4}, kF32, 0, 16), {"tensor 't'", "size overflows"}},
      {"UnknownType", one_tensor({32}, 16, 0, 64), {"tensor 't'", "ggml type 16 is not supported"}},
      {"RowNotWholeBlocks", one_tensor({33}, kQ8_0, 0, 64), {"tensor 't'", "33 values", "block of 32"}},
      {"OffsetUnaligned", one_tensor({4}, kF32, 16, 64), {"tensor 't'", "offset 16", "alignment 32"}},
      {"OffsetPastTheEnd", one_tensor({4}, kF32, 64, 64), {"tensor 't'", "from offset 64", "the data have 64"}},
      {"OffsetHuge", one_tensor({4}, kF32, ~uint64_t{31}, 64), {"tensor 't'", "cut short"}},
      {"DataCut", one_tensor({16}, kF32, 0, 63), {"tensor 't'", "64 bytes", "have 63", "cut short"}},
      {"NoData", std::string(Bytes().header(1, 0).tensor("t", {4}, kF32, 0)), {"ends before its data"}},
      {"InfoCut", Bytes().header(1, 0).string("t").u32(2).u64(4).u64(4), {"tensor type needs 4 bytes"}},
      {"Overlap",
       Bytes().header(2, 0).tensor("a", {16}, kF32, 0).tensor("b", {4}, kF32, 32).pad().zeros(64),
       {"tensor 'b'", "overlaps 'a'"}},
      {"DuplicateTensor",
       Bytes().header(2, 0).tensor("a", {4}, kF32, 0).tensor("a", {4}, kF32, 32).pad().zeros(64),
       {"tensor 'a' stands twice"}},
      {"AlignmentZero", with_alignment(0, 0), {"general.alignment is 0", "power of two"}},
      {"AlignmentNotPowerOfTwo", with_alignment(48, 0), {"general.alignment is 48"}},
      {"AlignmentOfOffset", with_alignment(64, 32), {"offset 32", "alignment 64"}},
      {"AlignmentNotInteger",
       Bytes().header(0, 1).string("general.alignment").u32(kString).string("32"),
       {"general.alignment", "is string; expected an integer"}},
  };
}

class BadGguf : public testing::TestWithParam<BadFile> {};

TEST_P(BadGguf, IsRefusedByName) {
  const TemporaryDirectory dir;
  const auto path = dir / "bad.gguf";
  write_text(path, GetParam().bytes);
  auto parts = GetParam().message;
  parts.push_back(path.string());
  expect_input_error(parts, [&] { GgufFile::open(path); });
  EXPECT_EQ(read_text(path), GetParam().bytes) << "the input must stay as it was";
}

const auto kName = [](const auto& info) { return std::string(info.param.name); };
INSTANTIATE_TEST_SUITE_P(Headers, BadGguf, testing::ValuesIn(broken_headers()), kName);
INSTANTIATE_TEST_SUITE_P(Values, BadGguf, testing::ValuesIn(broken_values()), kName);
INSTANTIATE_TEST_SUITE_P(Tensors, BadGguf, testing::ValuesIn(broken_tensors()), kName);

TEST(Gguf, EveryPrefixOfAGoodFileIsAnErrorOrWhole) {
  const std::string whole = read_text(golden("package.gguf"));
  const auto full = GgufFile::parse(bytes_of(whole), "whole");
  uint64_t last = 0;
  for (const auto& [name, t] : full.tensors()) {
    last = std::max<uint64_t>(last, static_cast<uint64_t>(t.bytes.data() + t.bytes.size() - bytes_of(whole).data()));
  }
  for (size_t n = 0; n < whole.size(); ++n) {
    const auto prefix = bytes_of(whole).first(n);
    if (n >= last) {
      EXPECT_EQ(GgufFile::parse(prefix, "prefix").tensors().size(), full.tensors().size());
    } else {
      EXPECT_THROW(GgufFile::parse(prefix, "prefix"), Error) << n;
    }
  }
}

TEST(Gguf, AcceptsVersion2AndTheLongestName) {
  const std::string name(63, 'n');
  const std::string text = Bytes().header(1, 0, 2).tensor(name, {4, 3}, kF32, 0).pad().zeros(48);
  const auto file = GgufFile::parse(bytes_of(text), "memory");
  EXPECT_EQ(file.version(), 2u);
  EXPECT_EQ(file.tensor(name).shape, (Shape{3, 4}));
}

TEST(Gguf, HonoursAlignment) {
  const std::string text = with_alignment(128, 128);
  const auto file = GgufFile::parse(bytes_of(text), "memory");
  EXPECT_EQ(file.alignment(), 128u);
  EXPECT_EQ(file.tensor("t").bytes.data(), bytes_of(text).data() + 256);
}

TEST(Gguf, ReadsThePackagesFile) {
  const auto file = GgufFile::open(golden("package.gguf"));
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(file.value("general.architecture").as_string(), "llama");
  EXPECT_EQ(file.value("test.u8").as_int(), 255);
  EXPECT_EQ(file.value("test.i8").as_int(), -1);
  EXPECT_EQ(file.value("test.u16").as_int(), 65535);
  EXPECT_EQ(file.value("test.i16").as_int(), -2);
  EXPECT_EQ(file.value("test.u32").as_int(), 4294967295);
  EXPECT_EQ(file.value("test.i32").as_int(), -3);
  EXPECT_EQ(file.value("test.u64").as_int(), int64_t{1} << 40);
  EXPECT_EQ(file.value("test.i64").as_int(), -(int64_t{1} << 40));
  EXPECT_EQ(file.value("test.f32").as_float(), 1.5);
  EXPECT_EQ(file.value("test.f64").as_float(), 0.1);
  EXPECT_TRUE(file.value("test.bool").as_bool());
  EXPECT_EQ(file.value("test.string").as_string(), "größe");
  EXPECT_EQ(file.value("test.strings").strings(), (std::vector<std::string_view>{"", "a", "bc"}));
  EXPECT_EQ(file.value("test.ints").ints(), (std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(file.value("test.ints").floats(), (std::vector<float>{1, -2, 3}));
  EXPECT_EQ(file.tensor("a.weight").shape, (Shape{2, 3}));
  EXPECT_EQ(floats_from(Dtype::F32, file.tensor("a.weight").bytes, "a"), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(file.tensor("b.weight").format, WeightFormat::F16);
  EXPECT_EQ(file.tensor("c.weight").format, WeightFormat::Q8_0);
  EXPECT_EQ(file.tensor("c.weight").shape, (Shape{2, 64}));
  EXPECT_EQ(file.tensor("c.weight").bytes.size(), 2u * 2 * 34);
}

TEST(Gguf, WrongTypesAreNamed) {
  const auto file = GgufFile::open(golden("package.gguf"));
  const auto source = golden("package.gguf").string();
  expect_input_error({source, "no key 'test.none'"}, [&] { file.value("test.none"); });
  expect_input_error({source, "no tensor 'none'"}, [&] { file.tensor("none"); });
  expect_input_error({source, "'test.string' is string; expected an integer"},
                     [&] { file.value("test.string").as_int(); });
  expect_input_error({"'test.f32' is f32; expected an integer"}, [&] { file.value("test.f32").as_int(); });
  expect_input_error({"'test.bool' is bool; expected a number"}, [&] { file.value("test.bool").as_float(); });
  expect_input_error({"'test.u8' is u8; expected a bool"}, [&] { file.value("test.u8").as_bool(); });
  expect_input_error({"'test.u8' is u8; expected a string"}, [&] { file.value("test.u8").as_string(); });
  expect_input_error({"'test.ints' is an array of i32"}, [&] { file.value("test.ints").as_int(); });
  expect_input_error({"'test.ints' is an array of i32; expected an array of strings"},
                     [&] { file.value("test.ints").strings(); });
  expect_input_error({"'test.strings' is an array of string"}, [&] { file.value("test.strings").ints(); });
  expect_input_error({"'test.strings' is an array of string"}, [&] { file.value("test.strings").floats(); });
}

TEST(Gguf, U64BeyondSigned) {
  const std::string text = Bytes().header(0, 1).string("k").u32(10).u64(~uint64_t{0});
  const auto file = GgufFile::parse(bytes_of(text), "memory");
  expect_input_error({"'k' is 18446744073709551615"}, [&] { file.value("k").as_int(); });
}

GgufWriter sample_writer(const std::vector<float>& a, const std::string& q8) {
  GgufWriter out;
  out.add_string("general.architecture", "llama");
  out.add_u32("u32", 7);
  out.add_u64("u64", uint64_t{1} << 40);
  out.add_i32("i32", -7);
  out.add_f32("f32", 0.25f);
  out.add_bool("bool", true);
  out.add_strings("strings", std::vector<std::string>{"x", "", "größe"});
  out.add_i32s("i32s", std::vector<int32_t>{3, -4});
  out.add_f32s("f32s", std::vector<float>{0.5f});
  out.add_tensor("q", WeightFormat::Q8_0, {3, 32}, bytes_of(q8));
  out.add_tensor("a", WeightFormat::F32, {5}, bytes_of(a));
  return out;
}

TEST(Gguf, WritesWhatItReads) {
  const TemporaryDirectory dir;
  const std::vector<float> a = {1, 2, 3, 4, 5};
  const std::string q8(3 * 34, 'q');
  const auto writer = sample_writer(a, q8);
  writer.write(dir / "m.gguf");
  writer.write(dir / "again.gguf");
  EXPECT_EQ(read_text(dir / "m.gguf"), read_text(dir / "again.gguf"));
  const auto file = GgufFile::open(dir / "m.gguf");
  EXPECT_EQ(file.file_bytes(), read_text(dir / "m.gguf").size());
  EXPECT_EQ(file.value("u64").as_int(), int64_t{1} << 40);
  EXPECT_EQ(file.value("strings").strings()[2], "größe");
  EXPECT_EQ(file.value("f32s").floats(), std::vector<float>{0.5f});
  EXPECT_EQ(file.tensor("q").shape, (Shape{3, 32}));
  EXPECT_TRUE(std::ranges::equal(file.tensor("q").bytes, bytes_of(q8)));
  EXPECT_EQ(floats_from(Dtype::F32, file.tensor("a").bytes, "a"), a);

  GgufWriter copy;  // values of another file, in its (alphabetic) order here
  for (const auto& [key, value] : file.metadata()) copy.add_value(key, value);
  copy.write(dir / "copy.gguf");
  const auto copied = GgufFile::open(dir / "copy.gguf");
  ASSERT_EQ(copied.metadata().size(), file.metadata().size());
  for (const auto& [key, value] : file.metadata()) {
    EXPECT_TRUE(std::ranges::equal(copied.value(key).payload, value.payload)) << key;
    EXPECT_EQ(copied.value(key).type, value.type) << key;
  }
}

TEST(Gguf, ProducersAreCalledInTurnAndGiveTheSameFile) {
  const TemporaryDirectory dir;
  const std::vector<float> a = {1, 2, 3, 4, 5};
  const std::string q8(3 * 34, 'q');
  sample_writer(a, q8).write(dir / "whole.gguf");
  GgufWriter w;
  const auto whole = GgufFile::open(dir / "whole.gguf");
  for (const char* key : {"general.architecture", "u32", "u64", "i32", "f32", "bool", "strings", "i32s", "f32s"})
    w.add_value(key, whole.value(key));
  std::string order;
  w.add_tensor("q", WeightFormat::Q8_0, {3, 32}, [&](const GgufWriter::Sink& sink) {
    order += "q";
    for (size_t row = 0; row < 3; ++row) sink(bytes_of(q8).subspan(row * 34, 34));
  });
  w.add_tensor("a", WeightFormat::F32, {5}, [&](const GgufWriter::Sink& sink) {
    order += "a";
    sink(bytes_of(a));
  });
  EXPECT_EQ(order, "");
  w.write(dir / "pieces.gguf");
  EXPECT_EQ(order, "qa");
  EXPECT_EQ(read_text(dir / "pieces.gguf"), read_text(dir / "whole.gguf"));
}

TEST(Gguf, AWriteThatFailsLeavesTheOldFile) {
  const TemporaryDirectory dir;
  write_text(dir / "m.gguf", "old");
  const std::vector<float> a = {1, 2, 3, 4};
  GgufWriter w;
  w.add_tensor("a", WeightFormat::F32, {4}, bytes_of(a));
  w.add_tensor("b", WeightFormat::F32, {4}, [&](const GgufWriter::Sink& sink) { sink(bytes_of(a).first(12)); });
  expect_error(ErrorKind::Internal, {"'b'", "12 bytes", "needs 16"}, [&] { w.write(dir / "m.gguf"); });
  EXPECT_EQ(read_text(dir / "m.gguf"), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
}

TEST(Gguf, WriterRefusesWhatReadersWould) {
  GgufWriter w;
  w.add_u32("k", 1);
  expect_error(ErrorKind::Internal, {"'k'", "twice"}, [&] { w.add_bool("k", true); });
  const std::string data(16, 'x');
  expect_error(ErrorKind::Internal, {"64 bytes"},
               [&] { w.add_tensor(std::string(64, 'n'), WeightFormat::F32, {4}, bytes_of(data)); });
  expect_error(ErrorKind::Internal, {"needs 20"}, [&] { w.add_tensor("t", WeightFormat::F32, {5}, bytes_of(data)); });
  expect_error(ErrorKind::Internal, {"NF4"}, [&] { w.add_tensor("t", WeightFormat::NF4, {2, 16}, bytes_of(data)); });
  w.add_tensor("t", WeightFormat::F32, {4}, bytes_of(data));
  expect_error(ErrorKind::Internal, {"'t'", "twice"},
               [&] { w.add_tensor("t", WeightFormat::F32, {4}, bytes_of(data)); });
}

}  // namespace
}  // namespace slmi::formats
