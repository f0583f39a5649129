// The bundled SNIPS subset is what its SOURCE.md says.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "slmi/base/atomic_file.h"
#include "slmi/data/row_reader.h"

namespace slmi::data {
namespace {

const std::filesystem::path kSnips = std::filesystem::path(SLMI_SOURCE_DIR) / "data" / "snips";

/// Letters and digits, ASCII case folded: coarser than tools/make-snips only in that it keeps accents' bytes as they
/// are.
std::set<std::string> normalised_texts(const RowSet& set) {
  std::set<std::string> out;
  for (const Row& row : set.rows) {
    std::string key;
    for (const char c : row.text) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte >= 0x80 || std::isalnum(byte) != 0) key += static_cast<char>(std::tolower(byte));
    }
    out.insert(key);
  }
  return out;
}

bool overlap(const std::set<std::string>& a, const std::set<std::string>& b) {
  return std::any_of(a.begin(), a.end(), [&](const auto& text) { return b.contains(text); });
}

TEST(Snips, SizesIntentsAndSlots) {
  std::set<std::string> intents, slots;
  for (const auto& [name, rows] : {std::pair{"train", 3000u}, std::pair{"val", 700u}, std::pair{"test", 700u}}) {
    const RowSet set = read_rows(kSnips / (std::string(name) + ".jsonl"));
    EXPECT_EQ(set.rows.size(), rows) << name;
    for (const Row& row : set.rows) {
      intents.insert(row.intent);
      EXPECT_TRUE(row.has_slots);
      for (const auto& [slot, value] : row.slots.items()) slots.insert(slot);
    }
  }
  EXPECT_EQ(intents.size(), 7u);
  EXPECT_EQ(slots.size(), 39u);
}

TEST(Snips, NoTrainingTextIsHeldOut) {
  const auto train = normalised_texts(read_rows(kSnips / "train.jsonl"));
  const auto val = normalised_texts(read_rows(kSnips / "val.jsonl"));
  const auto test = normalised_texts(read_rows(kSnips / "test.jsonl"));
  EXPECT_FALSE(overlap(train, test));
  EXPECT_FALSE(overlap(train, val));
  EXPECT_FALSE(overlap(val, test));
}

TEST(Snips, FirstAnswerIsTheOneTrainedOn) {
  const RowSet set = read_rows(kSnips / "test.jsonl");
  EXPECT_EQ(set.rows.at(1).answer,
            R"({"intent": "AddToPlaylist", "slots": {"music_item": "album", "playlist_owner": "my", )"
            R"("playlist": "Flow Español"}})");
}

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(Snips, ToolMakesTheSameBytesAgain) {
  const char* shared_data = std::getenv("SLMI_SHARED_DATA");
  if (shared_data == nullptr) GTEST_SKIP() << "SLMI_SHARED_DATA does not name the folder with the full snips set";
  const auto out = std::filesystem::path(::testing::TempDir()) / "slmi_snips_again";
  const std::string command = std::string("python3 '") + SLMI_SOURCE_DIR + "/tools/make-snips' '" + shared_data +
                              "/snips' '" + out.string() + "' > /dev/null";
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
  for (const std::string name : {"train.jsonl", "val.jsonl", "test.jsonl", "leaks.tsv", "LICENSE", "SOURCE.md"}) {
    EXPECT_TRUE(bytes_of(out / name) == bytes_of(kSnips / name)) << name;
  }
  slmi::remove_tree(out);
}

TEST(Snips, LicenceTravelsWithIt) {
  std::ifstream in(kSnips / "LICENSE");
  std::string first;
  std::getline(in, first);
  EXPECT_EQ(first, "CC0 1.0 Universal");
}

}  // namespace
}  // namespace slmi::data
