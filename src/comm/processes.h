// The processes behind the ranks, as far as this machine can see them.
#pragma once

#include <cstdint>
#include <string>

namespace slmi::comm {

/// Where a process runs, so that another one can tell whether it could see it.
struct ProcessPlace {
  std::string host;   // for people
  std::string space;  // boot and process namespace: equal where process numbers mean the same
  int64_t pid = 0;
};
ProcessPlace this_process();

std::string to_text(const ProcessPlace& place);
ProcessPlace to_place(const std::string& text);

/// True only if it was in this process's space, and is no longer: ended, or dead and not yet collected.
bool has_ended(const ProcessPlace& place);

/// "rank 1 (pid 77 on node3)".
std::string describe(int64_t rank, const ProcessPlace& place);

}  // namespace slmi::comm
