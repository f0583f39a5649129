// A shared library that may be absent, opened by name while the program runs: drivers of GPUs and their counters.
#pragma once

#include <string>

namespace slmi {

/// The library stays open until the process ends: drivers do not bear being closed. Copies share it.
class DynamicLibrary {
 public:
  /// What call() returns where the library is absent or has no such function.
  static constexpr int kNoFunction = -1;

  explicit DynamicLibrary(const std::string& name);
  bool found() const { return library_ != nullptr; }

  /// Calls a C function that returns a status (an int or an enum). The arguments' types must be the function's own:
  /// nothing is converted.
  template <class... Args>
  int call(const char* name, Args... args) const {
    void* function = address_of(name);
    return function == nullptr ? kNoFunction : reinterpret_cast<int (*)(Args...)>(function)(args...);
  }

 private:
  void* address_of(const char* name) const;
  void* library_;
};

}  // namespace slmi
