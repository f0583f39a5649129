// Ranks meet; see the header.
#include "meeting.h"

#include <c10/util/Logging.h>

#include <algorithm>
#include <cstdlib>
#include <future>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "slmi/base/error.h"

namespace slmi::comm {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kRollCall{2000};          // for a word, after the time-out
constexpr milliseconds kGoodbye{2000};           // for the others to come to the end
constexpr milliseconds kSettling{200};           // until a process whose connections are gone is seen to have ended
constexpr std::chrono::microseconds kNap{2000};  // of a wait: each look is a message to the store

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

}  // namespace

template <class Question>
auto Meeting::ask(Question question) {
  using Answer = std::invoke_result_t<Question, c10d::Store&>;
  std::packaged_task<Answer()> task([question = std::move(question), store = store_] { return question(*store); });
  auto answer = task.get_future();
  std::thread(std::move(task)).detach();
  if (answer.wait_for(peers_.timeout()) != std::future_status::ready) fail_without_store("no answer");
  try {
    return answer.get();
  } catch (const c10::Error& e) {
    fail_without_store(first_line(e.what_without_backtrace()));
  }
}

void Meeting::fail_without_store(const std::string& why) {
  std::this_thread::sleep_for(kSettling);
  peers_.require_running(kSettling);
  peers_.give_up();
  fail(ErrorKind::Peer, "lost the ranks' meeting place at {}, which {} holds: {}", address_,
       served_ ? "the launcher" : "rank 0", why);
}

Meeting::Meeting(const Launch& launch, const MeetingPlace& place, milliseconds timeout)
    : launch_(launch),
      address_(fmt::format("{}:{}", place.host, place.port)),
      served_(place.served),
      peers_(launch.rank, timeout) {
  connect(place);
  peers_.set_places(all_gather(to_text(this_process())));
}

void Meeting::connect(const MeetingPlace& place) {
  ::setenv("TORCH_CPP_LOG_LEVEL", "FATAL", 0);  // what c10d writes beside its exceptions; they are told here
  c10::initLogging();
  c10d::TCPStoreOptions options;
  options.port = place.port;
  options.isServer = launch_.rank == 0 && !place.served;
  options.waitWorkers = false;  // it could not say who is missing
  options.timeout = peers_.timeout();
  try {
    store_ = c10::make_intrusive<c10d::PrefixStore>("slmi/" + place.attempt,
                                                    c10::make_intrusive<c10d::TCPStore>(place.host, options));
  } catch (const c10::Error& e) {
    require(!options.isServer, ErrorKind::Device,
            "rank 0 cannot answer at {}, where the ranks of this job were to meet: {}; set MASTER_PORT to another port "
            "on all of them",
            address_, first_line(e.what_without_backtrace()));
    fail(ErrorKind::Peer,
         "waited {:.0f} s at {} for rank 0, which does not answer there: {}; is MASTER_ADDR its machine, and can this "
         "one reach it?",
         std::chrono::duration<double>(peers_.timeout()).count(), address_, first_line(e.what_without_backtrace()));
  }
}

std::vector<std::string> Meeting::all_gather(const std::string& mine) {
  const int64_t round = round_++;
  ask([name = key("words", round, launch_.rank), mine](c10d::Store& store) { return store.set(name, mine); });
  peers_.wait_until([&] { return all_said("words", round); }, kNap,
                    [&] {
                      const auto missing = without("words", round);
                      linger(missing);
                      require(round > 0, ErrorKind::Peer,
                              "waited {:.0f} s at {} for {} of {} ranks that did not come: {}",
                              std::chrono::duration<double>(peers_.timeout()).count(), address_, missing.size(),
                              launch_.size, fmt::join(missing, ", "));
                      return missing;
                    });
  std::vector<std::string> out;
  for (const auto& words : ask([all = keys("words", round)](c10d::Store& store) { return store.multiGet(all); }))
    out.emplace_back(words.begin(), words.end());
  // All have written this round's words, so all have read those before the last.
  if (round > 1)
    ask([name = key("words", round - 2, launch_.rank)](c10d::Store& store) { return store.deleteKey(name); });
  return out;
}

std::vector<int64_t> Meeting::silent_ranks() {
  ask([name = key("here", 0, launch_.rank)](c10d::Store& store) { return store.set(name, std::string("yes")); });
  std::vector<int64_t> missing;
  for (const auto end = Peers::Clock::now() + kRollCall; Peers::Clock::now() < end; std::this_thread::sleep_for(kNap))
    if (missing = without("here", 0); missing.empty()) break;
  linger(missing);
  return missing;
}

void Meeting::linger(const std::vector<int64_t>& missing) {
  say_goodbye();
  if (!holds_store()) return;
  const auto end = Peers::Clock::now() + kGoodbye;
  const auto has_gone = [&](int64_t rank) { return std::ranges::find(missing, rank) != missing.end(); };
  while (Peers::Clock::now() < end && !std::ranges::all_of(without("bye", 0), has_gone))
    std::this_thread::sleep_for(kNap);
}

void Meeting::say_goodbye() {
  ask([name = key("bye", 0, launch_.rank)](c10d::Store& store) { return store.set(name, std::string("yes")); });
}

void Meeting::leave() {
  if (peers_.lost()) return;
  try {
    peers_.shorten(kGoodbye);
    say_goodbye();
    if (holds_store()) peers_.wait_until([&] { return all_said("bye", 0); }, kNap, [&] { return without("bye", 0); });
  } catch (const Error&) {
  }
}

std::string Meeting::key(const char* what, int64_t round, int64_t rank) const {
  return fmt::format("{}/{}/{}", what, round, rank);
}

std::vector<std::string> Meeting::keys(const char* what, int64_t round) const {
  std::vector<std::string> out;
  for (int64_t rank = 0; rank < launch_.size; ++rank) out.push_back(key(what, round, rank));
  return out;
}

bool Meeting::all_said(const char* what, int64_t round) {
  return ask([all = keys(what, round)](c10d::Store& store) { return store.check(all); });
}

std::vector<int64_t> Meeting::without(const char* what, int64_t round) {
  return ask([all = keys(what, round)](c10d::Store& store) {
    std::vector<int64_t> out;
    for (size_t rank = 0; rank < all.size(); ++rank)
      if (!store.check({all[rank]})) out.push_back(static_cast<int64_t>(rank));
    return out;
  });
}

}  // namespace slmi::comm
