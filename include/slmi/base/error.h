// The one exception type of slmi, and the exit code each kind of failure maps to.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace slmi {

/// What went wrong, in the terms of the process's exit code (see exit_code).
enum class ErrorKind {
  Usage,        // bad flag or configuration
  Input,        // a file from outside is missing, broken or does not fit
  Device,       // a GPU or memory limit stands in the way
  Numeric,      // NaN, a matrix that is not positive definite, ...
  Findings,     // a check found something, or a threshold was not met
  Peer,         // another process of the job was lost
  Output,       // a result could not be written
  Interrupted,  // SIGINT; state was saved
  Terminated,   // SIGTERM; state was saved
  Internal,     // a bug of ours
};

/// Every failure that library code reports. The message says what, where, got / expected and what to do.
/// Library code throws it; only cli/ prints it.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

/// Process exit code of a kind: 2 usage, 3 input, 4 device, 5 numeric, 6 findings, 7 peer, 8 output, 130 interrupted,
/// 143 terminated, 1 internal.
int exit_code(ErrorKind kind);

/// Throws Error{kind} with a fmt-formatted message.
template <class... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

/// Throws Error{kind} unless `condition` holds.
template <class... Args>
void require(bool condition, ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) fail(kind, format, std::forward<Args>(args)...);
}

}  // namespace slmi
