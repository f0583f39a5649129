// Whole-file writes that either happen completely or leave the old file as it was.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

namespace slmi {

/// Writes to `path`.tmp-PID, then commit() does fsync, rename over `path` and fsync of the directory.
/// Destroyed without commit, the temporary file is removed and `path` is untouched.
/// @throws Error{Output} naming the path and the system's reason (disk full, permission, ...).
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void commit();

 private:
  void flush_buffer();
  std::filesystem::path path_, temporary_;
  int fd_ = -1;
  std::string buffer_;
};

/// Writes the whole text atomically.
void write_file_atomically(const std::filesystem::path& path, std::string_view text);

/// Removes a file, or nothing if there is none. @throws Error{Output}.
void remove_file(const std::filesystem::path& path);

/// Removes a file, or a directory with all in it (links themselves, not what they lead to), or nothing if there is
/// none. In place of std::filesystem::remove_all: libtorch.so exports one of an old libstdc++, which crashes wherever
/// the linker finds it before the system's.
void remove_tree(const std::filesystem::path& path, std::error_code& error);
/// @throws Error{Output}.
void remove_tree(const std::filesystem::path& path);

/// fsyncs a directory so that renames inside it survive a crash. @throws Error{Output}.
void sync_directory(const std::filesystem::path& directory);

/// What a directory is called on the way in where the system cannot exchange two.
inline constexpr std::string_view kFreshSuffix = ".new";

enum class Exchange {
  IfPossible,
  Never,  // as on a file system that cannot
};
/// Puts the directory `from` in place of `to`, both in one parent. Where the system can exchange two directories
/// (renameat2; not NFS, among others), whoever reads `to` sees the old or the new one whole; what was there is removed
/// after. Elsewhere `from` becomes `to`.new, the old one is removed, and `to`.new becomes `to`: at each moment one of
/// the two is whole, so a reader that may meet a crash takes `to`.new before `to`. @throws Error{Output}.
void replace_directory(const std::filesystem::path& from, const std::filesystem::path& to,
                       Exchange exchange = Exchange::IfPossible);

/// Creates the directory and its parents. @throws Error{Output} with the system's reason.
void create_directories(const std::filesystem::path& directory);

}  // namespace slmi
