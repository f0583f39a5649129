// Ranks that are threads of this process meet at a port of this machine; who does not come is named.
#include "meeting.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <future>
#include <thread>

#include "slmi/base/error.h"

namespace slmi::comm {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

/// A socket that holds a free port.
class TakenPort {
 public:
  TakenPort() : socket_(::socket(AF_INET6, SOCK_STREAM, 0)) {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_addr = in6addr_any;
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(socket_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(socket_, 1), 0);
    EXPECT_EQ(::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin6_port);
  }
  ~TakenPort() { release(); }
  TakenPort(const TakenPort&) = delete;
  TakenPort& operator=(const TakenPort&) = delete;
  void release() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }
  MeetingPlace place() const { return {"127.0.0.1", port_, false, "0"}; }

 private:
  int socket_;
  uint16_t port_ = 0;
};

MeetingPlace free_place() {
  TakenPort port;
  return port.place();
}

Launch launch(int64_t rank, int64_t size) {
  return {Launcher::Torchrun, rank, size, rank, size};
}

/// What each of the ranks came to: the work's text, or an error's exit code and message.
std::vector<std::string> meet(const MeetingPlace& place, int64_t size, const std::vector<int64_t>& who,
                              milliseconds timeout, const std::function<std::string(Meeting&, int64_t rank)>& work) {
  std::vector<std::future<std::string>> ends;
  for (const int64_t rank : who)
    ends.push_back(std::async(std::launch::async, [&, rank] {
      try {
        Meeting meeting(launch(rank, size), place, timeout);
        std::string out = work(meeting, rank);
        meeting.leave();
        return out;
      } catch (const Error& e) {
        return fmt::format("{} {}", exit_code(e.kind()), e.what());
      }
    }));
  std::vector<std::string> out;
  for (auto& end : ends) out.push_back(end.get());
  return out;
}

TEST(Meeting, WordsOfAllReachAllByRankManyTimes) {
  const auto got = meet(free_place(), 3, {2, 0, 1}, milliseconds(20000), [](Meeting& meeting, int64_t rank) {
    std::string text;
    for (int round = 0; round < 5; ++round) {
      for (const auto& word : meeting.all_gather(fmt::format("{}{}", round, rank))) text += word + " ";
      meeting.barrier();
    }
    return text;
  });
  EXPECT_THAT(got, ::testing::Each("00 01 02 10 11 12 20 21 22 30 31 32 40 41 42 "));
}

TEST(Meeting, OneRankMeetsNobodyAtAnyPort) {
  const auto got = meet({"127.0.0.1", 0, false, "0"}, 1, {0}, milliseconds(5000),
                        [](Meeting& meeting, int64_t) { return meeting.all_gather("alone").at(0); });
  EXPECT_EQ(got.front(), "alone");
}

TEST(Meeting, RanksThatDoNotComeAreNamed) {
  const MeetingPlace place = free_place();
  const auto got = meet(place, 4, {0, 2}, milliseconds(1000), [](Meeting&, int64_t) { return ""; });
  const std::string want =
      fmt::format("7 waited 1 s at 127.0.0.1:{} for 2 of 4 ranks that did not come: 1, 3", place.port);
  EXPECT_EQ(got, (std::vector<std::string>{want, want}));
}

TEST(Meeting, RankZeroThatDoesNotComeIsNamed) {
  const MeetingPlace place = free_place();
  const auto got = meet(place, 2, {1}, milliseconds(1500), [](Meeting&, int64_t) { return ""; });
  EXPECT_THAT(got.front(),
              HasSubstr(fmt::format("at 127.0.0.1:{} for rank 0, which does not answer there", place.port)));
  EXPECT_THAT(got.front(), ::testing::StartsWith("7 waited "));
}

TEST(Meeting, APortThatIsTakenIsSaid) {
  const TakenPort taken;
  const auto got = meet(taken.place(), 2, {0}, milliseconds(1500), [](Meeting&, int64_t) { return ""; });
  EXPECT_THAT(got.front(), HasSubstr(fmt::format("4 rank 0 cannot answer at 127.0.0.1:{}", taken.place().port)));
  EXPECT_THAT(got.front(), HasSubstr("set MASTER_PORT to another port"));
}

TEST(Meeting, ARankThatStaysAwayLaterIsNamedByThoseThatWait) {
  const auto got = meet(free_place(), 3, {0, 1, 2}, milliseconds(1000), [](Meeting& meeting, int64_t rank) {
    if (rank == 1) return std::this_thread::sleep_for(milliseconds(4000)), std::string("late");
    meeting.barrier();
    return std::string("together");
  });
  for (const size_t rank : {0, 2}) EXPECT_THAT(got[rank], HasSubstr("7 waited 1 s for rank 1 (pid ")) << rank;
}

TEST(Meeting, WhoLeavesEarlyDoesNotAnswerWhatTheOthersWaitFor) {
  const auto got = meet(free_place(), 3, {0, 1, 2}, milliseconds(1000), [](Meeting& meeting, int64_t rank) {
    if (rank == 1) return std::string("left");
    meeting.barrier();
    return std::string("together");
  });
  EXPECT_EQ(got[1], "left");
  for (const size_t rank : {0, 2}) EXPECT_THAT(got[rank], HasSubstr("7 waited 1 s for rank 1 (pid ")) << rank;
}

TEST(Meeting, ARollCallMissesWhoDoesNotAnswer) {
  const auto got = meet(free_place(), 3, {0, 1, 2}, milliseconds(5000), [](Meeting& meeting, int64_t rank) {
    if (rank == 2) return std::this_thread::sleep_for(milliseconds(3000)), std::string("away");
    return fmt::format("{}", fmt::join(meeting.silent_ranks(), ","));
  });
  EXPECT_EQ(got, (std::vector<std::string>{"2", "2", "away"}));
}

}  // namespace
}  // namespace slmi::comm
