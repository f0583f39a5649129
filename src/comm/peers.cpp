// Waiting for ranks; see the header.
#include "peers.h"

#include <sched.h>

#include <algorithm>
#include <thread>

#include "slmi/base/error.h"

namespace slmi::comm {
namespace {

constexpr std::chrono::milliseconds kLook{100};   // between looks at the processes of this machine
constexpr std::chrono::microseconds kBusy{2000};  // of a wait, before it naps

double seconds(Peers::Clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

}  // namespace

void Peers::set_places(const std::vector<std::string>& texts) {
  places_.clear();
  for (const auto& text : texts) places_.push_back(to_place(text));
}

void Peers::wait_until(const std::function<bool()>& done, std::chrono::microseconds nap, const RollCall& roll_call) {
  const auto start = Clock::now();
  for (auto look = start + kLook; !done();) {
    const auto now = Clock::now();
    now - start < kBusy ? static_cast<void>(::sched_yield()) : std::this_thread::sleep_for(nap);
    if (now < look) continue;
    look = now + kLook;
    require_running(now - start);
    if (now - start > timeout_) fail_missing(roll_call());
  }
}

void Peers::require_running(Clock::duration waited) {
  std::vector<int64_t> ended;
  for (int64_t rank = 0; rank < static_cast<int64_t>(places_.size()); ++rank)
    if (rank != rank_ && has_ended(places_[static_cast<size_t>(rank)])) ended.push_back(rank);
  if (ended.empty()) return;
  lost_ = true;
  fail(ErrorKind::Peer, "waited {:.1f} s for {}, which ended; its own message says why, if it could leave one",
       seconds(waited), describe_all(ended));
}

void Peers::fail_missing(const std::vector<int64_t>& missing) {
  lost_ = true;
  fail(ErrorKind::Peer, "waited {:.0f} s for {}; --comm-timeout says how long a rank may stay away", seconds(timeout_),
       missing.empty() ? "the others, which answer but have not come so far" : describe_all(missing));
}

std::string Peers::describe_all(const std::vector<int64_t>& ranks) const {
  std::string out;
  for (const int64_t rank : ranks) {
    if (!out.empty()) out += ", ";
    const auto at = static_cast<size_t>(rank);
    out += at < places_.size() ? describe(rank, places_[at]) : fmt::format("rank {}", rank);
  }
  return out;
}

}  // namespace slmi::comm
