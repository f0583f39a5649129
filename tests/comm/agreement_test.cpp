// Ranks that differ are refused by name and key; processes that ended are known.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "processes.h"
#include "slmi/base/error.h"
#include "slmi/base/json.h"
#include "slmi/comm/communicator.h"

namespace slmi::comm {
namespace {

/// Ranks whose words are known beforehand.
class Rehearsed final : public Communicator {
 public:
  explicit Rehearsed(std::vector<std::string> texts)
      : Communicator(0, static_cast<int64_t>(texts.size())), texts_(std::move(texts)) {}
  void all_reduce_start(const at::Tensor&) override {}
  void wait() override {}
  void wait_for(const ops::StreamMark&) override {}
  void synchronize() override {}
  void broadcast(const at::Tensor&) override {}
  std::vector<std::string> all_gather(const std::string& mine) override {
    texts_.front() = mine;
    return texts_;
  }
  void barrier() override {}

 private:
  std::vector<std::string> texts_;
};

TEST(Agreement, RanksAndKeysThatDifferAreNamed) {
  const std::vector<Agreement> mine = {{"base", "abc"}, {"configuration lr", "0.001"}};
  const std::string same = R"({"base":"abc","configuration lr":"0.001"})";
  Rehearsed agreeing({"", same, same});
  EXPECT_NO_THROW(require_agreement(agreeing, mine));
  Rehearsed differing({"", same, R"({"base":"xyz","configuration lr":"0.002"})", R"({"base":"abc"})"});
  try {
    require_agreement(differing, mine);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Usage);
    EXPECT_STREQ(
        e.what(),
        "the ranks of a job must run the same: rank 2 has base xyz, rank 0 has abc; rank 2 has configuration lr "
        "0.002, rank 0 has 0.001; rank 3 has configuration lr none, rank 0 has 0.001; nothing was started");
  }
}

TEST(Processes, EndedOnesAreKnownEvenBeforeTheyAreCollected) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  ProcessPlace place = this_process();
  place.pid = child;
  place = to_place(to_text(place));
  EXPECT_FALSE(has_ended(place));
  ::kill(child, SIGKILL);
  siginfo_t info;
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(has_ended(place)) << "dead, not collected";
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(has_ended(place)) << "collected";
  place.space = "another machine";
  EXPECT_FALSE(has_ended(place)) << "not to be seen from here";
}

}  // namespace
}  // namespace slmi::comm
