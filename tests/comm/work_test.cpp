// Work on ranks that are threads of this process: all end together, with the message of the one that failed.
#include "slmi/comm/work.h"

#include <gtest/gtest.h>

#include <barrier>
#include <chrono>
#include <csignal>
#include <thread>

#include "slmi/base/error.h"

namespace slmi::comm {
namespace {

/// Where the ranks' words meet.
class Meeting {
 public:
  explicit Meeting(size_t size) : texts_(size), barrier_(static_cast<std::ptrdiff_t>(size)) {}
  size_t size() const { return texts_.size(); }
  int rounds() const { return rounds_; }
  std::vector<std::string> gather(size_t rank, const std::string& mine) {
    texts_[rank] = mine;
    if (rank == 0) ++rounds_;
    barrier_.arrive_and_wait();
    auto all = texts_;
    barrier_.arrive_and_wait();
    return all;
  }

 private:
  std::vector<std::string> texts_;
  std::barrier<> barrier_;
  int rounds_ = 0;
};

class Member final : public Communicator {
 public:
  Member(size_t rank, Meeting& meeting)
      : Communicator(static_cast<int64_t>(rank), static_cast<int64_t>(meeting.size())), meeting_(meeting) {}
  void all_reduce_start(const at::Tensor&) override {}
  void wait() override {}
  void wait_for(const ops::StreamMark&) override {}
  void synchronize() override {}
  void broadcast(const at::Tensor&) override {}
  std::vector<std::string> all_gather(const std::string& mine) override {
    return meeting_.gather(static_cast<size_t>(rank()), mine);
  }
  void barrier() override {}

 private:
  Meeting& meeting_;
};

/// What each rank's call threw: its kind's exit code and its message, "0 " for nothing.
std::vector<std::string> ends(Meeting& meeting, const std::function<void(Communicator&)>& call) {
  std::vector<std::string> out(meeting.size(), "0 ");
  std::vector<std::jthread> threads;
  for (size_t rank = 0; rank < meeting.size(); ++rank)
    threads.emplace_back([&, rank] {
      Member member(rank, meeting);
      try {
        call(member);
      } catch (const Error& e) {
        out[rank] = fmt::format("{} {}", exit_code(e.kind()), e.what());
      }
    });
  threads.clear();
  return out;
}

void sleep_ms(int ms) {
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

/// Until it is told to stop; what it throws then is not what anyone should hear.
int work_until_stopped(const std::atomic<int>* stop) {
  for (int i = 0; i < 1000 && *stop == 0; ++i) sleep_ms(10);
  return *stop;
}

TEST(Work, RanksHearOfEachOtherWhileOneIsStillAtWork) {
  Meeting meeting(3);
  std::vector<int> done(3, 0);
  const auto got = ends(meeting, [&](Communicator& ranks) {
    on_all(ranks, nullptr, [&](auto) {
      if (ranks.rank() == 1) sleep_ms(1000);
      done[static_cast<size_t>(ranks.rank())] = 1;
    });
    EXPECT_EQ(done, (std::vector<int>{1, 1, 1})) << "on rank " << ranks.rank();
  });
  EXPECT_EQ(got, (std::vector<std::string>{"0 ", "0 ", "0 "}));
  EXPECT_GE(meeting.rounds(), 3);
}

TEST(Work, AFailureEndsAllWithItsMessage) {
  Meeting meeting(3);
  std::vector<int> stopped_by(3, 0);
  const auto got = ends(meeting, [&](Communicator& ranks) {
    on_all(ranks, nullptr, [&](const auto* stop) {
      if (ranks.rank() == 1) fail(ErrorKind::Input, "rows.jsonl:3: no answer");
      stopped_by[static_cast<size_t>(ranks.rank())] = work_until_stopped(stop);
      fail(ErrorKind::Device, "killed");
    });
  });
  EXPECT_EQ(stopped_by, (std::vector<int>{SIGKILL, 0, SIGKILL}));
  const std::string of_others = "3 rank 1 ended: rows.jsonl:3: no answer";
  EXPECT_EQ(got, (std::vector<std::string>{of_others, "3 rows.jsonl:3: no answer", of_others}));
}

TEST(Work, ASignalToOneRankEndsAll) {
  Meeting meeting(2);
  const std::atomic<int> none = 0, terminated = SIGTERM;
  const auto got = ends(meeting, [&](Communicator& ranks) {
    on_all(ranks, ranks.first() ? &none : &terminated, [&](const auto* stop) {
      if (work_until_stopped(stop) == SIGTERM) fail(ErrorKind::Terminated, "stopped");
    });
  });
  EXPECT_EQ(got, (std::vector<std::string>{"143 rank 1 ended: stopped", "143 stopped"}));
}

TEST(Work, OfRankZeroAloneEndsAllAlike) {
  Meeting meeting(2);
  const auto got = ends(meeting, [&](Communicator& ranks) {
    on_first(ranks, nullptr, [&](auto) { fail(ErrorKind::Findings, "work of rank {}", ranks.rank()); });
  });
  EXPECT_EQ(got, (std::vector<std::string>{"6 work of rank 0", "6 rank 0 ended: work of rank 0"}));
}

TEST(Work, OfOneProcessStaysOnItsThread) {
  const auto alone = single_process();
  const std::atomic<int> signal = 0;
  std::thread::id where;
  on_all(*alone, &signal, [&](const std::atomic<int>* stop) {
    where = std::this_thread::get_id();
    EXPECT_EQ(stop, &signal);
  });
  EXPECT_EQ(where, std::this_thread::get_id());
}

}  // namespace
}  // namespace slmi::comm
