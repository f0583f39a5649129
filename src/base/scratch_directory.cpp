// Scratch files; see the header.
#include "slmi/base/scratch_directory.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"

namespace slmi {

ScratchDirectory::ScratchDirectory(const std::string& name) {
  const char* parent = std::getenv("TMPDIR");
  std::string path = (std::filesystem::path(parent != nullptr ? parent : "/tmp") / (name + "-XXXXXX")).string();
  const bool made = ::mkdtemp(path.data()) != nullptr;
  require(made, ErrorKind::Output, "{}: cannot be made: {}; set TMPDIR to a directory that can be written to", path,
          std::strerror(errno));
  path_ = path;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  remove_tree(path_, ignored);
}

}  // namespace slmi
