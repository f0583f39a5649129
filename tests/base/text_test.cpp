// Suggestions, progress lines, exit codes and the build's facts.
#include <gtest/gtest.h>

#include <regex.h>  // POSIX: std::regex raises false warnings under the sanitizers

#include <thread>

#include "expect_error.h"
#include "slmi/base/error.h"
#include "slmi/base/progress.h"
#include "slmi/base/suggest.h"
#include "slmi/base/version.h"
#include "temporary_directory.h"

namespace slmi {
namespace {

/// Matches of a POSIX extended expression in a text, one after another.
int64_t count_matches(const std::string& text, const char* expression) {
  regex_t compiled;
  EXPECT_EQ(regcomp(&compiled, expression, REG_EXTENDED), 0) << expression;
  int64_t count = 0;
  regmatch_t match;
  for (const char* at = text.c_str(); regexec(&compiled, at, 1, &match, 0) == 0; at += match.rm_eo) ++count;
  regfree(&compiled);
  return count;
}

TEST(EditDistance, Definition) {
  EXPECT_EQ(edit_distance("", ""), 0);
  EXPECT_EQ(edit_distance("abc", ""), 3);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("rank", "rank"), 0);
  EXPECT_EQ(edit_distance("rank", "ranks"), 1);
  EXPECT_EQ(edit_distance("rank", "bank"), 1);
  EXPECT_EQ(edit_distance("rank", "arnk"), 1);  // neighbours swapped
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("ca", "abc"), 3);  // restricted: a swapped pair is not edited again
}

TEST(NearestName, LikelySlipsOnly) {
  const std::vector<std::string> names = {"lora-rank", "lora-alpha", "lr", "epochs", "seed"};
  EXPECT_EQ(nearest_name("lora-ranks", names), "lora-rank");
  EXPECT_EQ(nearest_name("lora-rnak", names), "lora-rank");
  EXPECT_EQ(nearest_name("epoch", names), "epochs");
  EXPECT_EQ(nearest_name("lrr", names), "lr");
  EXPECT_EQ(nearest_name("quantization", names), "");
  EXPECT_EQ(nearest_name("x", {}), "");
}

TEST(NearestName, TheFirstOfEquallyNearOnesWins) {
  const std::vector<std::string> names = {"abcd1", "abcd2"};
  EXPECT_EQ(nearest_name("abcd", names), "abcd1");
}

TEST(Format, Durations) {
  EXPECT_EQ(format_duration(0), "0:00");
  EXPECT_EQ(format_duration(44.6), "0:45");
  EXPECT_EQ(format_duration(59.6), "1:00");
  EXPECT_EQ(format_duration(723), "12:03");
  EXPECT_EQ(format_duration(3723), "1:02:03");
  EXPECT_EQ(format_duration(-1), "0:00");
}

TEST(Format, Bytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
  EXPECT_EQ(format_bytes(20 << 10), "20.0 KiB");
  EXPECT_EQ(format_bytes(2566914048ull), "2.39 GiB");
  EXPECT_EQ(format_bytes(1ull << 43), "8.00 TiB");
}

std::string progress_output(double interval_s, int updates, int sleep_ms) {
  TemporaryDirectory directory;
  std::FILE* out = std::fopen((directory / "out").c_str(), "w");
  {
    Progress progress("training", "rows", 200, out, interval_s);
    for (int i = 1; i <= updates; ++i) {
      if (sleep_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(sleep_ms));
      progress.update(i * 200 / updates, "loss 0.5");
    }
    progress.finish("done");
    progress.finish("twice");
  }
  std::fclose(out);
  return read_all(directory / "out");
}

TEST(Progress, PlainLinesNowAndThenElsewhere) {
  const std::string text = progress_output(0.0, 4, 1);
  const char* line = R"(training (50|100|150|200)/200 (25|50|75|100)% [0-9.]+ rows/s 0:00 left \| loss 0.5)";
  EXPECT_EQ(count_matches(text, line), 4) << text;
  EXPECT_EQ(count_matches(text, "training 200/200 100% [0-9.]+ rows/s in 0:00 \\| done\n$"), 1) << text;
  EXPECT_EQ(text.find('\r'), std::string::npos);  // no redrawing in a file
}

TEST(Progress, QuietBetweenIntervalsAndOneLastLine) {
  const std::string text = progress_output(1000.0, 50, 0);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
}

TEST(Error, ExitCodesAreTheDocumentedOnes) {
  const std::vector<std::pair<ErrorKind, int>> want = {
      {ErrorKind::Usage, 2},        {ErrorKind::Input, 3},   {ErrorKind::Device, 4}, {ErrorKind::Numeric, 5},
      {ErrorKind::Findings, 6},     {ErrorKind::Peer, 7},    {ErrorKind::Output, 8}, {ErrorKind::Interrupted, 130},
      {ErrorKind::Terminated, 143}, {ErrorKind::Internal, 1}};
  for (const auto& [kind, code] : want) EXPECT_EQ(exit_code(kind), code);
}

TEST(Error, RequireThrowsOnlyWhereTheConditionFails) {
  EXPECT_NO_THROW(require(true, ErrorKind::Input, "never"));
  SLMI_EXPECT_ERROR(Numeric, "loss is nan at step 3",
                    require(false, ErrorKind::Numeric, "loss is {} at step {}", "nan", 3));
}

TEST(Version, NamesEveryFact) {
  const BuildInfo& b = build_info();
  EXPECT_TRUE(count_matches(b.version, R"(^[0-9]+\.[0-9]+\.[0-9]+$)") == 1) << b.version;
  EXPECT_TRUE(count_matches(b.commit, "^[-+./A-Za-z0-9_]+$") == 1) << b.commit;
  EXPECT_TRUE(count_matches(b.compiler, R"(^(GNU|Clang) [0-9]+\.[0-9]+)") == 1) << b.compiler;
  EXPECT_FALSE(b.build_type.empty());
  EXPECT_EQ(b.cuda.empty(), b.cuda_architectures.empty());
  EXPECT_EQ(version_string(), b.version + " (" + b.commit + ")");
  EXPECT_EQ(git_commit(), b.commit);
  const std::string text = build_text();
  for (const std::string& fact :
       {b.version, b.commit, b.compiler, b.build_type, b.libtorch, b.cuda, b.cuda_architectures})
    EXPECT_NE(text.find(fact), std::string::npos) << fact;
}

}  // namespace
}  // namespace slmi
