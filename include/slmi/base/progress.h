// Progress of a long job: one live line on a terminal, a plain line now and then elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace slmi {

/// Shows "label 120/375 32% 12.3 rows/s 0:45 left | note". On a terminal the line is redrawn at most 5 times a second;
/// elsewhere a line is printed every `plain_interval_s`. Not thread-safe. finish() (or destruction) ends the live line.
class Progress {
 public:
  Progress(std::string label, std::string unit, int64_t total, std::FILE* out = stderr, double plain_interval_s = 15.0);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// `done` counts from 0 to total. `note` is shown at the end of the line.
  void update(int64_t done, const std::string& note = {});
  void finish(const std::string& note = {});

 private:
  void draw(const std::string& note, bool last);
  std::string label_, unit_;
  int64_t total_, done_ = 0;
  std::FILE* out_;
  double plain_interval_s_;
  bool terminal_, finished_ = false;
  std::chrono::steady_clock::time_point start_, last_;
};

/// "0:45", "12:03", "1:02:03".
std::string format_duration(double seconds);
/// "512 B", "1.5 KiB", "2.39 GiB".
std::string format_bytes(uint64_t bytes);

}  // namespace slmi
