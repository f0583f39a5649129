// mmap of a whole file; see the header.
#include "slmi/base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "slmi/base/error.h"

namespace slmi {

MappedFile MappedFile::open(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  require(fd >= 0, ErrorKind::Input, "{}: cannot open: {}", path.string(), std::strerror(errno));
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    fail(ErrorKind::Input, "{}: not a regular file", path.string());
  }
  MappedFile out;
  out.path_ = path;
  const auto size = static_cast<size_t>(info.st_size);
  if (size == 0) {
    ::close(fd);
    return out;
  }
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int reason = errno;
  ::close(fd);
  require(data != MAP_FAILED, ErrorKind::Input, "{}: cannot map {} bytes: {}", path.string(), size,
          std::strerror(reason));
  out.mapping_ = std::shared_ptr<const void>(data, [size](const void* p) { ::munmap(const_cast<void*>(p), size); });
  out.bytes_ = {static_cast<const std::byte*>(data), size};
  return out;
}

}  // namespace slmi
