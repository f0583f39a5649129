// Where ranks of a job find each other and exchange words: a key-value store at one of them (c10d's TCPStore).
#pragma once

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <string>
#include <vector>

#include "peers.h"
#include "slmi/comm/launch.h"

namespace slmi::comm {

class Meeting {
 public:
  /// Waits for all ranks. `words` are this rank's, for the others to know it by beside its process.
  /// @throws Error{Peer} naming the address and the ranks that did not come; Error{Device} if rank 0 cannot take the
  /// port.
  Meeting(const Launch& launch, const MeetingPlace& place, std::chrono::milliseconds timeout);

  /// Everyone's text, by rank. @throws Error{Peer}.
  std::vector<std::string> all_gather(const std::string& mine);
  void barrier() { all_gather(""); }
  /// Ranks that do not come to a roll call, which all hold that have waited in vain.
  std::vector<int64_t> silent_ranks();
  Peers& peers() { return peers_; }
  /// Says that this rank is done. Rank 0, which takes the store with it, waits a short while for all to say so: for
  /// words of their own, which are no answer to what another one waits for.
  void leave();
  /// For libraries that meet in it themselves.
  const c10::intrusive_ptr<c10d::Store>& store() const { return store_; }

 private:
  void connect(const MeetingPlace& place);
  std::string key(const char* what, int64_t round, int64_t rank) const;
  std::vector<std::string> keys(const char* what, int64_t round) const;  // by rank
  /// One message, whatever the number of ranks: for waits.
  bool all_said(const char* what, int64_t round);
  /// Ranks whose key is not there.
  std::vector<int64_t> without(const char* what, int64_t round);
  /// The store's answer. It is asked on a thread of its own, which is left behind, with what `question` holds, if no
  /// answer comes: the store's own waits have no end where the process behind it is stopped.
  template <class Question>
  auto ask(Question question);
  bool holds_store() const { return launch_.rank == 0 && !served_; }
  void say_goodbye();
  /// Before the end that `missing` ranks bring: the others come to it a little later, and must still be able to ask.
  void linger(const std::vector<int64_t>& missing);
  [[noreturn]] void fail_without_store(const std::string& why);

  Launch launch_;
  std::string address_;
  bool served_;
  Peers peers_;
  c10::intrusive_ptr<c10d::Store> store_;
  int64_t round_ = 0;
};

}  // namespace slmi::comm
