// The pool: workers sleep on a condition variable between calls; see the header.
#include "slmi/base/parallel.h"

#include <sched.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "slmi/base/error.h"

namespace slmi {
namespace {

using Body = std::function<void(int64_t, int64_t, int)>;

class Pool {
 public:
  ~Pool() { stop(); }

  void resize(int threads) {
    std::lock_guard run(run_mutex_);
    if (threads == threads_) return;
    stop();
    threads_ = threads;
  }
  int threads() const { return threads_; }

  void run(int64_t n, const Body& body) {
    std::lock_guard run(run_mutex_);
    if (n <= 0) return;
    const int parts = static_cast<int>(std::min<int64_t>(threads_, n));
    if (parts == 1) return body(0, n, 0);
    start();
    {
      std::lock_guard lock(mutex_);
      body_ = &body;
      n_ = n;
      parts_ = parts;
      pending_ = static_cast<int>(workers_.size());
      error_ = nullptr;
      ++generation_;
    }
    wake_.notify_all();
    work(0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return pending_ == 0; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void start() {
    if (!workers_.empty()) return;
    stopping_ = false;
    for (int t = 1; t < threads_; ++t)
      workers_.emplace_back([this, t, seen = generation_]() mutable { loop(t, seen); });
  }
  void stop() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (auto& w : workers_) w.join();
    workers_.clear();
  }
  void loop(int thread, uint64_t seen) {
    while (true) {
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
        if (stopping_) return;
        seen = generation_;
      }
      work(thread);
      std::lock_guard lock(mutex_);
      if (--pending_ == 0) done_.notify_one();
    }
  }
  void work(int thread) {
    if (thread >= parts_) return;
    try {
      (*body_)(n_ * thread / parts_, n_ * (thread + 1) / parts_, thread);
    } catch (...) {
      std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  std::mutex run_mutex_, mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  int threads_ = available_processors();
  const Body* body_ = nullptr;
  int64_t n_ = 0;
  int parts_ = 1, pending_ = 0;
  uint64_t generation_ = 0;
  bool stopping_ = false;
  std::exception_ptr error_;
};

Pool& pool() {
  static Pool instance;
  return instance;
}

/// Whole processors granted by the control group (v2), or 0 without a limit.
int cgroup_processors() {
  std::ifstream in("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(in >> quota >> period) || quota == "max" || period <= 0) return 0;
  return std::max(1, static_cast<int>(std::stod(quota) / period + 0.5));
}

}  // namespace

int available_processors() {
  cpu_set_t set;
  int n = 1;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) n = CPU_COUNT(&set);
  if (const int limit = cgroup_processors(); limit > 0) n = std::min(n, limit);
  return std::max(1, n);
}

void set_num_threads(int n) {
  require(n >= 1, ErrorKind::Usage, "threads = {}; expected at least 1", n);
  pool().resize(n);
}

int num_threads() {
  return pool().threads();
}

void parallel_for(int64_t n, const Body& body) {
  pool().run(n, body);
}

}  // namespace slmi
