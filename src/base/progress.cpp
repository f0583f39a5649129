// Progress lines; see the header.
#include "slmi/base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

namespace slmi {
namespace {

constexpr double kTerminalInterval_s = 0.2;

double seconds_since(std::chrono::steady_clock::time_point t) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
}

}  // namespace

Progress::Progress(std::string label, std::string unit, int64_t total, std::FILE* out, double plain_interval_s)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      out_(out),
      plain_interval_s_(plain_interval_s),
      terminal_(::isatty(::fileno(out)) != 0),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (!finished_ && terminal_ && done_ > 0) std::fputc('\n', out_);
}

void Progress::update(int64_t done, const std::string& note) {
  done_ = done;
  if (seconds_since(last_) < (terminal_ ? kTerminalInterval_s : plain_interval_s_)) return;
  last_ = std::chrono::steady_clock::now();
  draw(note, false);
}

void Progress::finish(const std::string& note) {
  if (finished_) return;
  draw(note, true);
  finished_ = true;
}

void Progress::draw(const std::string& note, bool last) {
  const double elapsed = seconds_since(start_);
  const double rate = elapsed > 0 ? static_cast<double>(done_) / elapsed : 0.0;
  std::string line = fmt::format("{} {}", label_, done_);
  if (total_ > 0)
    line += fmt::format("/{} {:.0f}%", total_, 100.0 * static_cast<double>(done_) / static_cast<double>(total_));
  line += fmt::format(" {:.1f} {}/s", rate, unit_);
  if (last)
    line += fmt::format(" in {}", format_duration(elapsed));
  else if (total_ > 0 && rate > 0)
    line += fmt::format(" {} left", format_duration(static_cast<double>(total_ - done_) / rate));
  if (!note.empty()) line += " | " + note;
  if (terminal_) line = "\r\033[K" + line;
  if (!terminal_ || last) line += "\n";
  std::fwrite(line.data(), 1, line.size(), out_);
  std::fflush(out_);
}

std::string format_duration(double seconds) {
  const auto s = static_cast<int64_t>(std::max(0.0, seconds) + 0.5);
  if (s >= 3600) return fmt::format("{}:{:02d}:{:02d}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02d}", s / 60, s % 60);
}

std::string format_bytes(uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  const char* unit = "B";
  for (const char* next : {"KiB", "MiB", "GiB", "TiB"}) {
    if (value < 1024) break;
    value /= 1024;
    unit = next;
  }
  return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : 1, unit);
}

}  // namespace slmi
