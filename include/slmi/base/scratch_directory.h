// A place for files that nobody needs afterwards.
#pragma once

#include <filesystem>
#include <string>

namespace slmi {

/// A new directory under TMPDIR (or /tmp) that only this process knows, gone with what is in it when this is destroyed.
class ScratchDirectory {
 public:
  /// @param name what its name begins with. @throws Error{Output} if it cannot be made.
  explicit ScratchDirectory(const std::string& name);
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace slmi
