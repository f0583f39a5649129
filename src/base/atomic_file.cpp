// Temporary file, fsync, rename, fsync of the directory; see the header.
#include "slmi/base/atomic_file.h"

#include <fcntl.h>
#include <stdio.h>  // renameat2
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "slmi/base/error.h"

namespace slmi {
namespace {

constexpr size_t kBufferBytes = 1 << 20;  // few system calls for writers of many small pieces

[[noreturn]] void fail_output(const std::filesystem::path& path, const char* action, int reason) {
  fail(ErrorKind::Output, "{}: cannot {}: {}{}", path.string(), action, std::strerror(reason),
       reason == ENOSPC ? "; free some space and run again, the previous file is untouched" : "");
}

std::filesystem::path parent_of(const std::filesystem::path& path) {
  const auto parent = path.parent_path();
  return parent.empty() ? std::filesystem::path(".") : parent;
}

void rename_directory(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail_output(to, "put in place", errno);
  sync_directory(parent_of(to));
}

/// False where the file system cannot do it.
bool exchange_directories(const std::filesystem::path& a, const std::filesystem::path& b) {
  if (::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0) return true;
  if (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP) return false;
  fail_output(b, "put in place", errno);
}

}  // namespace

AtomicFile::AtomicFile(const std::filesystem::path& path)
    : path_(path), temporary_(path.string() + fmt::format(".tmp-{}", ::getpid())) {
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) fail_output(path_, "create", errno);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::flush_buffer() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t n = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_output(path_, "write", errno);
    done += static_cast<size_t>(n);
  }
  buffer_.clear();
}

void AtomicFile::write(std::string_view text) {
  buffer_.append(text);
  if (buffer_.size() >= kBufferBytes) flush_buffer();
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void AtomicFile::commit() {
  flush_buffer();
  if (::fsync(fd_) != 0) fail_output(path_, "flush", errno);
  const int closed = ::close(fd_);
  fd_ = -1;
  if (closed != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int reason = errno;
    ::unlink(temporary_.c_str());
    fail_output(path_, "put in place", reason);
  }
  sync_directory(parent_of(path_));
}

void write_file_atomically(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void remove_file(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::remove(path, error);
  if (error) fail_output(path, "remove", error.value());
}

void remove_tree(const std::filesystem::path& path, std::error_code& error) {
  namespace fs = std::filesystem;
  const auto type = fs::symlink_status(path, error).type();
  if (type == fs::file_type::not_found) return error.clear();
  if (error) return;
  if (type == fs::file_type::directory) {
    std::vector<fs::path> inside;  // listed whole before anything goes: what readdir shows of a changing one is open
    for (fs::directory_iterator i(path, error), end; !error && i != end; i.increment(error))
      inside.push_back(i->path());
    for (const auto& entry : inside)
      if (!error) remove_tree(entry, error);
  }
  if (!error) fs::remove(path, error);
}

void remove_tree(const std::filesystem::path& path) {
  std::error_code error;
  remove_tree(path, error);
  if (error) fail_output(path, "remove", error.value());
}

void sync_directory(const std::filesystem::path& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail_output(directory, "open the directory", errno);
  const int result = ::fsync(fd);
  const int reason = errno;
  ::close(fd);
  if (result != 0) fail_output(directory, "flush the directory", reason);
}

void replace_directory(const std::filesystem::path& from, const std::filesystem::path& to, Exchange exchange) {
  std::error_code ignored;
  std::filesystem::path fresh = to;
  fresh += kFreshSuffix;
  if (std::filesystem::exists(fresh, ignored)) {  // an earlier replacement was cut short: that one is whole
    remove_tree(to);
    rename_directory(fresh, to);
  }
  if (!std::filesystem::exists(to, ignored)) return rename_directory(from, to);
  if (exchange == Exchange::IfPossible && exchange_directories(from, to)) {
    sync_directory(parent_of(to));
    return remove_tree(from);
  }
  rename_directory(from, fresh);
  remove_tree(to);
  rename_directory(fresh, to);
}

void create_directories(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  require(!error, ErrorKind::Output, "{}: cannot create the directory: {}", directory.string(), error.message());
}

}  // namespace slmi
