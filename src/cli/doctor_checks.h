// What slmi doctor looks at: each check says what is there and what stands in the way.
#pragma once

#include <string>
#include <vector>

namespace slmi::cli {

struct Finding {
  enum class State {
    Ok,
    Note,    // works, but less well than it could
    Broken,  // something that slmi needs does not work
  };
  State state = State::Ok;
  std::string subject;  // "memory"
  std::string text;     // what is there
  std::string remedy;   // what to do; empty: nothing
};

enum class Probes { Run, Skip };

/// Looks at program, processors, memory, libtorch, GPU, base model and disk. Takes about two seconds with probes.
std::vector<Finding> examine_machine(Probes probes);

}  // namespace slmi::cli
