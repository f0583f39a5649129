// What the forms of `slmi quantize` that work layer by layer show while they do.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime.h"
#include "slmi/base/progress.h"
#include "slmi/calib/layer_options.h"

namespace slmi::cli {

/// Peak memory of this process: the system keeps it with the pages of mapped files; without them it is looked at where
/// sample() is called.
class PeakMemory {
 public:
  void sample();
  void print(at::Device device, Runtime& rt);

 private:
  int64_t anonymous_ = 0;
};

/// A live line for the groups of matrices, and the check for a signal at each of them.
class GroupProgress {
 public:
  /// Sets the hooks of `options`; must live as long as they are called. @param on_stop  what is told when a signal
  /// arrived. @param memory  sampled at each group.
  GroupProgress(Runtime& rt, const std::string& on_stop, PeakMemory& memory, calib::LayerOptions& options);
  void finish();

 private:
  std::optional<Progress> progress_;
  std::string last_;
};

/// Mean and largest error, and what the user should know of the damping. @param where  the file that has them all.
void print_errors(const std::vector<calib::ModuleReport>& modules, const std::string& where, Runtime& rt);

}  // namespace slmi::cli
