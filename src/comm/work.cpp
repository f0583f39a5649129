// Work on all ranks; see the header.
//
// Ranks meet in rounds and say how far they are, so that no wait is longer than a round, whoever is still at work, and
// a failure is known everywhere within one. The rounds stay on the caller's thread, as MPI asks; the work moves.
#include "slmi/comm/work.h"

#include <algorithm>
#include <csignal>
#include <future>
#include <thread>

#include "slmi/base/error.h"
#include "slmi/base/json.h"

namespace slmi::comm {
namespace {

constexpr std::chrono::milliseconds kRound{100};  // seldom enough not to disturb what another rank measures

struct Failure {
  int64_t rank = -1;  // none
  ErrorKind kind = ErrorKind::Internal;
  std::string message;
};

/// Nothing while it goes on, "{}" once it is done, {"kind", "message"} where it failed.
std::string state_of(const std::shared_future<void>& work) {
  if (work.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return "";
  Json state = Json::object();
  const auto failed = [&](ErrorKind kind, const char* message) {
    state = {{"kind", static_cast<int>(kind)}, {"message", message}};
  };
  try {
    work.get();
  } catch (const Error& e) {
    failed(e.kind(), e.what());
  } catch (const std::exception& e) {
    failed(ErrorKind::Internal, e.what());
  }
  return state.dump(-1, ' ', false, Json::error_handler_t::replace);  // a path in a message may be no UTF-8
}

Failure first_failure(const std::vector<std::string>& states) {
  for (size_t rank = 0; rank < states.size(); ++rank) {
    if (states[rank].empty()) continue;
    const Json state = Json::parse(states[rank]);
    if (state.contains("kind"))
      return {static_cast<int64_t>(rank), static_cast<ErrorKind>(state["kind"].get<int>()), state["message"]};
  }
  return {};
}

/// Ends the work however its scope is left: the future that is destroyed after this waits for it.
struct StopAtEnd {
  std::atomic<int>& stop;
  ~StopAtEnd() { stop = SIGKILL; }
};

}  // namespace

void on_all(Communicator& ranks, const std::atomic<int>* signal, const Work& work) {
  if (ranks.size() == 1) return work(signal);
  std::atomic<int> stop{0};
  const std::shared_future<void> working = std::async(std::launch::async, [&] { work(&stop); });
  const StopAtEnd at_end{stop};
  Failure failure;
  for (std::vector<std::string> states(1); std::ranges::any_of(states, &std::string::empty);) {
    std::this_thread::sleep_for(kRound);
    if (signal != nullptr && stop == 0) stop = signal->load();
    states = ranks.all_gather(state_of(working));
    if (failure.rank < 0) failure = first_failure(states);  // later ones are of ranks that were told to stop
    if (failure.rank >= 0) stop = SIGKILL;
  }
  if (failure.rank < 0) return;
  if (failure.rank == ranks.rank()) working.get();
  fail(failure.kind, "rank {} ended: {}", failure.rank, failure.message);
}

void on_first(Communicator& ranks, const std::atomic<int>* signal, const Work& work) {
  on_all(ranks, signal, [&](const std::atomic<int>* stop) {
    if (ranks.first()) work(stop);
  });
}

}  // namespace slmi::comm
