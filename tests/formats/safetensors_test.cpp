// Safetensors: files of the safetensors package, bytes equal to it, and each kind of broken file by name.
#include "slmi/formats/safetensors.h"

#include "slmi/base/half.h"
#include "test_files.h"

namespace slmi::formats {
namespace {

/// A file from its parts; the header size can lie.
std::string file_text(const std::string& header, const std::string& data, std::optional<uint64_t> size = std::nullopt) {
  const uint64_t n = size.value_or(header.size());
  std::string out(reinterpret_cast<const char*>(&n), sizeof(n));
  return out + header + data;
}

const std::string kGoodHeader =
    R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})";
const std::string kGoodData = std::string(11, '\1');

struct BadFile {
  const char* name;
  std::string bytes;
  std::vector<std::string> message;
};

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"t":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

std::vector<BadFile> bad_files() {
  const std::string good = file_text(kGoodHeader, kGoodData);
  const auto with = [](const std::string& header) { return file_text(header, std::string(8, '\0')); };
  const std::string two =
      R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":)";
  return {
      {"Empty", "", {"byte 0", "the file is empty"}},
      {"SizeCut", good.substr(0, 5), {"byte 0", "header size needs 8 bytes, 5 left"}},
      {"HeaderCut", good.substr(0, 40), {"byte 8", "header needs", "32 left", "cut short"}},
      {"DataCut", good.substr(0, good.size() - 1), {"tensor 'b'", "ends at byte 11", "which has 10", "cut short"}},
      {"TrailingBytes", good + "xy", {"2 bytes too many"}},
      {"OversizedHeader", file_text(kGoodHeader, kGoodData, 100'000'001), {"100000001 exceeds the limit"}},
      {"HugeHeader", file_text(kGoodHeader, kGoodData, ~uint64_t{0}), {"18446744073709551615 exceeds the limit"}},
      {"NotJson", with("{\"t\": }"), {"header:1:7", "not valid JSON"}},
      {"NoBrace", with(" {}"), {"does not start with '{'"}},
      {"EmptyHeader", with(""), {"does not start with '{'"}},
      {"DuplicateKey", with(R"({"t":1,"t":2})"), {"header", "\"t\" stands twice"}},
      {"EntryNotObject", with(R"({"t":[]})"), {"tensor 't'", "array; expected an object"}},
      {"NoDtype", with(R"({"t":{"shape":[],"data_offsets":[0,8]}})"), {"tensor 't'", "needs dtype"}},
      {"UnknownKey", with(R"({"t":{"dtype":"U8","shape":[],"offset":1}})"), {"tensor 't'", "unknown key 'offset'"}},
      {"UnknownDtype", with(entry(R"("F4")", "[8]", "[0,8]")), {"tensor 't'", "\"F4\" is not known"}},
      {"DtypeNumber", with(entry("3", "[8]", "[0,8]")), {"tensor 't'", "dtype is number"}},
      {"ShapeNumber", with(entry(R"("U8")", "8", "[0,8]")), {"tensor 't'", "shape is number"}},
      {"NegativeDimension", with(entry(R"("U8")", "[-8]", "[0,8]")), {"tensor 't'", "shape holds -8"}},
      {"FractionalDimension", with(entry(R"("U8")", "[8.0]", "[0,8]")), {"tensor 't'", "shape holds 8.0"}},
      {"SizeOverflow", with(entry(R"("F32")", "[4294967296,4294967296]", "[0,8]")), {"tensor 't'", "overflows"}},
      {"SizeOverflowToZero", with(entry(R"("F32")", "[4611686018427387904]", "[0,0]")), {"tensor 't'", "overflows"}},
      {"DimensionOver64Bits", with(entry(R"("U8")", "[18446744073709551616]", "[0,8]")), {"tensor 't'", "shape holds"}},
      {"OneOffset", with(entry(R"("U8")", "[8]", "[8]")), {"tensor 't'", "data_offsets must be"}},
      {"NegativeOffset", with(entry(R"("U8")", "[8]", "[-8,0]")), {"tensor 't'", "data_offsets holds -8"}},
      {"Backwards", with(entry(R"("U8")", "[8]", "[8,0]")), {"tensor 't'", "run backwards"}},
      {"WrongSize", with(entry(R"("F32")", "[4]", "[0,8]")), {"tensor 't'", "give 8 bytes, F32 [4] needs 16"}},
      {"PastTheEnd", with(entry(R"("U8")", "[9]", "[0,9]")), {"tensor 't'", "ends at byte 9", "has 8"}},
      {"Overlap", with(two + "[2,6]}}"), {"tensor 'b'", "overlap 'a', which ends at 4"}},
      {"Hole", with(two + "[5,9]}}") + " ", {"tensor 'b'", "leaving a hole behind 'a'"}},
      {"FirstNotAtZero", with(entry(R"("U8")", "[7]", "[1,8]")), {"tensor 't'", "leaving a hole behind 'the header'"}},
      {"MetadataNotObject", with(R"({"__metadata__":3})"), {"__metadata__ is number"}},
      {"MetadataNotString", with(R"({"__metadata__":{"a":3}})"), {"__metadata__: 'a' is number"}},
      {"InvalidUtf8", with("{\"\xff\":1}"), {"header", "not valid JSON"}},
  };
}

class BadSafetensors : public testing::TestWithParam<BadFile> {};

TEST_P(BadSafetensors, IsRefusedByName) {
  const TemporaryDirectory dir;
  const auto path = dir / "bad.safetensors";
  write_text(path, GetParam().bytes);
  auto parts = GetParam().message;
  parts.push_back(path.string());
  expect_input_error(parts, [&] { SafetensorsFile::open(path); });
  EXPECT_EQ(read_text(path), GetParam().bytes) << "the input must stay as it was";
}

INSTANTIATE_TEST_SUITE_P(Files, BadSafetensors, testing::ValuesIn(bad_files()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Safetensors, ReadsTheHandMadeFile) {
  const std::string text = file_text(kGoodHeader + "   ", kGoodData);
  const auto file = SafetensorsFile::parse(bytes_of(text), "memory");
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensor("a").shape, Shape{2});
  EXPECT_EQ(file.tensor("b").bytes.size(), 3u);
  EXPECT_TRUE(file.metadata().empty());
  expect_input_error({"memory", "no tensor 'c'"}, [&] { file.tensor("c"); });
}

TEST(Safetensors, MissingFileIsNamed) {
  expect_input_error({"/nowhere/m.safetensors"}, [] { SafetensorsFile::open("/nowhere/m.safetensors"); });
}

TEST(Safetensors, AcceptsScalarsAndEmptyTensors) {
  const std::string text = file_text(R"({"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                                     R"("e":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]}})",
                                     std::string(4, '\0'));
  const auto file = SafetensorsFile::parse(bytes_of(text), "memory");
  EXPECT_TRUE(file.tensor("s").shape.empty());
  EXPECT_EQ(file.tensor("e").bytes.size(), 0u);
}

TEST(Safetensors, ReadsThePackagesFile) {
  const auto file = SafetensorsFile::open(golden("package.safetensors"));
  EXPECT_EQ(file.tensors().size(), 18u);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  const auto& f32 = file.tensor("z.f32");
  EXPECT_EQ(f32.shape, (Shape{2, 3}));
  EXPECT_EQ(floats_from(f32.dtype, f32.bytes, "z"), (std::vector<float>{-2.5f, -1.5f, -0.5f, 0.5f, 1.5f, 2.5f}));
  const auto& f16 = file.tensor("b.f16");
  EXPECT_EQ(floats_from(f16.dtype, f16.bytes, "b"), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  const auto& bf16 = file.tensor("c.bf16");
  EXPECT_EQ(floats_from(bf16.dtype, bf16.bytes, "c"), (std::vector<float>{0, 1.25f, 2.5f, 3.75f, 5, 6.25f}));
  int64_t i64 = 0;
  std::memcpy(&i64, file.tensor("d.i64").bytes.data() + 8, 8);
  EXPECT_EQ(i64, int64_t{1} << 40);
  EXPECT_TRUE(file.has("größe\n\""));
  expect_input_error({"e", "I32", "expected F32, F16 or BF16"},
                     [&] { floats_from(Dtype::I32, file.tensor("e.i32").bytes, "e"); });
}

TEST(Safetensors, WritesThePackagesBytes) {
  const TemporaryDirectory dir;
  const auto file = SafetensorsFile::open(golden("package.safetensors"));
  std::vector<OutputTensor> tensors;
  for (const auto& [name, t] : file.tensors()) tensors.push_back({name, t.dtype, t.shape, t.bytes});
  std::reverse(tensors.begin(), tensors.end());  // the writer's order is its own
  write_safetensors(dir / "ours.safetensors", tensors);
  EXPECT_EQ(read_text(dir / "ours.safetensors"), read_text(golden("package.safetensors")));
}

TEST(Safetensors, StreamsProducedTensorsOneAtATime) {
  const TemporaryDirectory dir;
  int calls = 0;
  const auto produce = [&](uint8_t value) {
    return [&calls, value] {
      ++calls;
      return std::vector<std::byte>(6, std::byte{value});
    };
  };
  std::vector<OutputTensor> tensors = {{"b", Dtype::F16, {3}, {}, produce(2)}, {"a", Dtype::F16, {3}, {}, produce(1)}};
  write_safetensors(dir / "m.safetensors", tensors);
  EXPECT_EQ(calls, 2);
  const auto file = SafetensorsFile::open(dir / "m.safetensors");
  EXPECT_EQ(file.tensor("a").bytes[5], std::byte{1});
  EXPECT_EQ(file.tensor("b").bytes[0], std::byte{2});
  const auto header_size = static_cast<uint64_t>(read_text(dir / "m.safetensors")[0]);
  EXPECT_EQ(header_size % 8, 0u) << "data must start 8-aligned";
}

TEST(Safetensors, RefusesToWriteWhatDoesNotFit) {
  const TemporaryDirectory dir;
  const std::string data(8, 'x');
  const OutputTensor good{"a", Dtype::F32, {2}, bytes_of(data)};
  const OutputTensor small{"a", Dtype::F32, {3}, bytes_of(data)};
  expect_error(ErrorKind::Internal, {"'a'", "8 bytes", "needs 12"},
               [&] { write_safetensors(dir / "m", std::vector<OutputTensor>{small}); });
  expect_error(ErrorKind::Internal, {"'a'", "twice"}, [&] {
    write_safetensors(dir / "m", std::vector<OutputTensor>{good, good});
  });
  EXPECT_TRUE(std::filesystem::is_empty(dir.path())) << "a failed write must leave nothing";
  expect_error(ErrorKind::Output, {"/nowhere/m"},
               [&] { write_safetensors("/nowhere/m", std::vector<OutputTensor>{good}); });
}

TEST(Dtype, NamesAreReadBack) {
  for (int i = 0; i <= static_cast<int>(Dtype::U64); ++i) {
    const auto dtype = static_cast<Dtype>(i);
    EXPECT_EQ(parse_dtype(dtype_name(dtype)), dtype);
  }
  EXPECT_FALSE(parse_dtype("F128").has_value());
  expect_input_error({"overflow"}, [] { num_elements(Shape{INT64_MAX, 4}); });
}

}  // namespace
}  // namespace slmi::formats
