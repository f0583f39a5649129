// Temporary file, fsync, rename, fsync of the directory; see the header.
#include "slmi/base/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "slmi/base/error.h"

namespace slmi {
namespace {

constexpr size_t kBufferBytes = 1 << 20;  // few system calls for writers of many small pieces

[[noreturn]] void fail_output(const std::filesystem::path& path, const char* action, int reason) {
  fail(ErrorKind::Output, "{}: cannot {}: {}{}", path.string(), action, std::strerror(reason),
       reason == ENOSPC ? "; free some space and run again, the previous file is untouched" : "");
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
  const auto parent = path_.parent_path();
  sync_directory(parent.empty() ? std::filesystem::path(".") : parent);
}

void write_file_atomically(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void sync_directory(const std::filesystem::path& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail_output(directory, "open the directory", errno);
  const int result = ::fsync(fd);
  const int reason = errno;
  ::close(fd);
  if (result != 0) fail_output(directory, "flush the directory", reason);
}

void create_directories(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  require(!error, ErrorKind::Output, "{}: cannot create the directory: {}", directory.string(), error.message());
}

}  // namespace slmi
