// The other ranks of a job: waiting for them, and saying who is lost.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "processes.h"

namespace slmi::comm {

/// Waits poll, so that a lost rank ends them: the libraries below would wait for ever. A rank of this machine that
/// ended is seen by its process number. Others are asked after the time-out.
class Peers {
 public:
  using Clock = std::chrono::steady_clock;
  /// Ranks that do not say a word when asked.
  using RollCall = std::function<std::vector<int64_t>()>;

  Peers(int64_t rank, std::chrono::milliseconds timeout) : rank_(rank), timeout_(timeout) {}
  /// By rank, each as to_text of this_process() there.
  void set_places(const std::vector<std::string>& texts);

  std::chrono::milliseconds timeout() const { return timeout_; }
  void shorten(std::chrono::milliseconds timeout) { timeout_ = std::min(timeout_, timeout); }
  /// A wait has failed: nothing more can be done together.
  bool lost() const { return lost_; }
  void give_up() { lost_ = true; }

  /// Until `done`, which is asked again after `nap`. @throws Error{Peer} naming the ranks of this machine that ended,
  /// or, after the time-out, those that `roll_call` misses.
  void wait_until(const std::function<bool()>& done, std::chrono::microseconds nap, const RollCall& roll_call);
  /// @throws Error{Peer} naming the ranks of this machine that ended, if any did. @param waited so far.
  void require_running(Clock::duration waited);
  /// @throws Error{Peer} naming `missing`; none: all answer, but have not come.
  [[noreturn]] void fail_missing(const std::vector<int64_t>& missing);

 private:
  std::string describe_all(const std::vector<int64_t>& ranks) const;

  int64_t rank_;
  std::chrono::milliseconds timeout_;
  std::vector<ProcessPlace> places_;
  bool lost_ = false;
};

}  // namespace slmi::comm
