// Exit codes of the error kinds.
#include "slmi/base/error.h"

namespace slmi {

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::Usage:
      return 2;
    case ErrorKind::Input:
      return 3;
    case ErrorKind::Device:
      return 4;
    case ErrorKind::Numeric:
      return 5;
    case ErrorKind::Findings:
      return 6;
    case ErrorKind::Peer:
      return 7;
    case ErrorKind::Output:
      return 8;
    case ErrorKind::Interrupted:
      return 130;
    case ErrorKind::Terminated:
      return 143;
    case ErrorKind::Internal:
      return 1;
  }
  return 1;
}

}  // namespace slmi
