// Processes of this machine; see the header.
#include "processes.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>

#include "slmi/base/json.h"

namespace slmi::comm {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string link_target(const char* path) {
  std::array<char, 256> target;
  const ssize_t n = ::readlink(path, target.data(), target.size());
  return n > 0 ? std::string(target.data(), static_cast<size_t>(n)) : "";
}

const std::string& this_space() {
  static const std::string space =
      first_line("/proc/sys/kernel/random/boot_id") + " " + link_target("/proc/self/ns/pid");
  return space;
}

/// Z in /proc/N/stat, after the name in parentheses: its parent has not collected it yet.
bool is_dead(int64_t pid) {
  const std::string stat = first_line("/proc/" + std::to_string(pid) + "/stat");
  const size_t end = stat.rfind(") ");
  return end != std::string::npos && (stat[end + 2] == 'Z' || stat[end + 2] == 'X');
}

}  // namespace

ProcessPlace this_process() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  return {host.data(), this_space(), ::getpid()};
}

std::string to_text(const ProcessPlace& place) {
  return Json({{"host", place.host}, {"space", place.space}, {"pid", place.pid}}).dump();
}

ProcessPlace to_place(const std::string& text) {
  const Json json = Json::parse(text);
  return {json.at("host"), json.at("space"), json.at("pid")};
}

bool has_ended(const ProcessPlace& place) {
  if (place.space != this_space()) return false;
  const auto pid = static_cast<pid_t>(place.pid);
  return (::kill(pid, 0) != 0 && errno == ESRCH) || is_dead(place.pid);
}

std::string describe(int64_t rank, const ProcessPlace& place) {
  return "rank " + std::to_string(rank) + " (pid " + std::to_string(place.pid) + " on " + place.host + ")";
}

}  // namespace slmi::comm
