// Files: mapping, atomic writes and what a failed write leaves behind.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>

#include <functional>

#include "expect_error.h"
#include "slmi/base/atomic_file.h"
#include "slmi/base/mapped_file.h"
#include "slmi/base/scratch_directory.h"
#include "temporary_directory.h"

namespace slmi {
namespace {

int num_entries(const std::filesystem::path& directory) {
  int n = 0;
  for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator(directory)) ++n;
  return n;
}

/// Runs body with files limited to `bytes`, as on a full disk; SIGXFSZ ignored, so that write() fails with EFBIG.
void with_file_size_limit(rlim_t bytes, const std::function<void()>& body) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limited{bytes, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limited), 0);
  body();
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old);
}

TEST(AtomicFile, CommitReplacesTheWholeFile) {
  TemporaryDirectory directory;
  const auto path = directory / "f";
  write_all(path, "old and longer");
  AtomicFile file(path);
  file.write("new ");
  file.write(std::as_bytes(std::span("text", 4)));
  EXPECT_EQ(read_all(path), "old and longer");
  file.commit();
  EXPECT_EQ(read_all(path), "new text");
  EXPECT_EQ(num_entries(directory.path()), 1);
}

TEST(AtomicFile, WithoutCommitNothingChanges) {
  TemporaryDirectory directory;
  write_all(directory / "f", "old");
  {
    AtomicFile file(directory / "f");
    file.write(std::string(3 << 20, 'x'));  // more than the buffer, so that bytes reached the temporary file
    EXPECT_EQ(num_entries(directory.path()), 2);
  }
  EXPECT_EQ(read_all(directory / "f"), "old");
  EXPECT_EQ(num_entries(directory.path()), 1);
}

TEST(AtomicFile, FailedWriteLeavesTheOldFileAndNoRest) {
  TemporaryDirectory directory;
  const auto path = directory / "f";
  write_all(path, "old");
  with_file_size_limit(1 << 20, [&] {
    SLMI_EXPECT_ERROR(Output, path.string() + ": cannot write: File too large",
                      write_file_atomically(path, std::string(3 << 20, 'x')));
    AtomicFile file(path);  // small enough for the buffer: the failure comes at commit
    file.write(std::string((1 << 20) - 1, 'x'));
    SLMI_EXPECT_ERROR(Output, "cannot write: File too large", file.write(std::string(2, 'x')); file.commit());
  });
  EXPECT_EQ(read_all(path), "old");
  EXPECT_EQ(num_entries(directory.path()), 1);
}

TEST(AtomicFile, DirectoryMissingOrInTheWay) {
  TemporaryDirectory directory;
  SLMI_EXPECT_ERROR(Output, "cannot create: No such file or directory",
                    write_file_atomically(directory / "absent/f", "x"));
  std::filesystem::create_directory(directory / "d");
  SLMI_EXPECT_ERROR(Output, "cannot put in place: Is a directory", write_file_atomically(directory / "d", "x"));
  EXPECT_EQ(num_entries(directory.path()), 1);
}

TEST(AtomicFile, KilledInTheMiddleLeavesTheOldFile) {
  TemporaryDirectory directory;
  write_all(directory / "f", "old");
  const pid_t child = fork();
  if (child == 0) {
    AtomicFile file(directory / "f");
    file.write(std::string(3 << 20, 'x'));
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(read_all(directory / "f"), "old");
}

TEST(AtomicFile, RelativeNameWithoutDirectory) {
  TemporaryDirectory directory;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(directory.path());
  write_file_atomically("f", "x");
  std::filesystem::current_path(before);
  EXPECT_EQ(read_all(directory / "f"), "x");
}

std::filesystem::path directory_with(const std::filesystem::path& path, const std::string& text) {
  slmi::create_directories(path);
  write_all(path / "f", text);
  return path;
}

class ReplaceDirectory : public ::testing::TestWithParam<Exchange> {};

TEST_P(ReplaceDirectory, TheNewOneStandsAloneAfterwards) {
  TemporaryDirectory directory;
  replace_directory(directory_with(directory / "a.tmp", "first"), directory / "a", GetParam());
  EXPECT_EQ(read_all(directory / "a/f"), "first");
  write_all(directory_with(directory / "a", "old") / "only in the old one", "x");
  replace_directory(directory_with(directory / "a.tmp", "second"), directory / "a", GetParam());
  EXPECT_EQ(read_all(directory / "a/f"), "second");
  EXPECT_EQ(num_entries(directory / "a"), 1);
  EXPECT_EQ(num_entries(directory.path()), 1);
}

TEST_P(ReplaceDirectory, GoesOnWhereAnEarlierOneWasCutShort) {
  TemporaryDirectory directory;
  directory_with(directory / "a", "half removed");
  directory_with(directory / "a.new", "earlier");
  replace_directory(directory_with(directory / "a.tmp", "later"), directory / "a", GetParam());
  EXPECT_EQ(read_all(directory / "a/f"), "later");
  EXPECT_EQ(num_entries(directory.path()), 1);
}

TEST_P(ReplaceDirectory, AFailureNamesTheDirectoryAndLeavesTheOldOne) {
  TemporaryDirectory directory;
  directory_with(directory / "a", "old");
  SLMI_EXPECT_ERROR(Output, "cannot put in place: No such file",
                    replace_directory(directory / "absent", directory / "a", GetParam()));
  EXPECT_EQ(read_all(directory / "a/f"), "old");
}

INSTANTIATE_TEST_SUITE_P(Ways, ReplaceDirectory, ::testing::Values(Exchange::IfPossible, Exchange::Never),
                         [](const auto& info) { return info.param == Exchange::Never ? "Renamed" : "Exchanged"; });

/// From now on this process gets `reason` where it asks to exchange two directories.
bool refuse_exchange(uint32_t reason) {
  const auto offset = [](size_t bytes) { return static_cast<uint32_t>(bytes); };
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset(offsetof(seccomp_data, nr))),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_renameat2, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset(offsetof(seccomp_data, args[4]))),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, RENAME_EXCHANGE, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | reason),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(code), code};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// EINVAL: the file system cannot; ENOSYS: the kernel cannot; EPERM: another matter.
TEST(ReplaceDirectoryRefused, IsRenamedWhereTheSystemCannotExchange) {
  constexpr int kReplaced = 0, kFailed = 1, kNoFilter = 2;
  for (const auto& [reason, expected] : {std::pair(EINVAL, kReplaced), {ENOSYS, kReplaced}, {EPERM, kFailed}}) {
    TemporaryDirectory directory;
    directory_with(directory / "a", "old");
    directory_with(directory / "a.tmp", "new");
    const pid_t child = fork();
    if (child == 0) {
      if (!refuse_exchange(static_cast<uint32_t>(reason))) _exit(kNoFilter);
      try {
        replace_directory(directory / "a.tmp", directory / "a");
      } catch (const Error&) {
        _exit(kFailed);
      }
      _exit(kReplaced);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == kNoFilter) GTEST_SKIP() << "this system lets no process filter its own calls";
    EXPECT_EQ(WEXITSTATUS(status), expected) << reason;
    EXPECT_EQ(read_all(directory / "a/f"), expected == kReplaced ? "new" : "old") << reason;
    EXPECT_EQ(num_entries(directory.path()), expected == kReplaced ? 1 : 2) << reason;
  }
}

TEST(CreateDirectories, MakesParentsAndNamesWhatIsInTheWay) {
  TemporaryDirectory directory;
  slmi::create_directories(directory / "a/b/c");
  EXPECT_TRUE(std::filesystem::is_directory(directory / "a/b/c"));
  EXPECT_NO_THROW(slmi::create_directories(directory / "a/b/c"));
  write_all(directory / "file", "x");
  SLMI_EXPECT_ERROR(Output, "cannot create the directory: Not a directory",
                    slmi::create_directories(directory / "file/d"));
}

TEST(RemoveTree, TakesAllInsideAndNothingBehindALink) {
  TemporaryDirectory directory;
  const auto tree = directory / "tree", other = directory / "other";
  slmi::create_directories(tree / "a" / "b");
  slmi::create_directories(other);
  write_all(tree / "a" / "b" / "file", "x");
  write_all(other / "kept", "y");
  std::filesystem::create_directory_symlink(other, tree / "a" / "link");
  std::filesystem::create_symlink("nowhere", tree / "dangling");
  remove_tree(tree);
  EXPECT_FALSE(std::filesystem::exists(tree));
  EXPECT_EQ(read_all(other / "kept"), "y");
  remove_tree(tree);  // not there: nothing to do
  remove_tree(other / "kept");
  EXPECT_EQ(num_entries(other), 0);
  write_all(other / "file", "x");
  std::error_code error;
  remove_tree(other / "file" / "below", error);
  EXPECT_EQ(num_entries(other), 1);
  SLMI_EXPECT_ERROR(Output, "cannot remove", remove_tree("/proc/self/task"));
}

TEST(SyncDirectory, MissingOneIsAnError) {
  TemporaryDirectory directory;
  EXPECT_NO_THROW(sync_directory(directory.path()));
  SLMI_EXPECT_ERROR(Output, "cannot open the directory", sync_directory(directory / "absent"));
}

TEST(MappedFile, BytesAreTheFilesAndCopiesShareThem) {
  TemporaryDirectory directory;
  const std::string text("a\0b\xFF", 4);
  write_all(directory / "f", text);
  MappedFile copy;
  const std::byte* where = nullptr;
  {
    const MappedFile file = MappedFile::open(directory / "f");
    where = file.bytes().data();
    copy = file;
  }
  EXPECT_EQ(copy.bytes().data(), where);
  EXPECT_EQ(copy.text(), text);
  EXPECT_EQ(copy.size(), 4u);
  EXPECT_EQ(copy.path(), directory / "f");
}

TEST(MappedFile, EmptyFileMapsToNoBytes) {
  TemporaryDirectory directory;
  write_all(directory / "f", "");
  EXPECT_EQ(MappedFile::open(directory / "f").size(), 0u);
  EXPECT_EQ(MappedFile::open(directory / "f").text(), "");
}

TEST(MappedFile, MissingAndNotRegularAreErrors) {
  TemporaryDirectory directory;
  SLMI_EXPECT_ERROR(Input, "absent: cannot open: No such file or directory", MappedFile::open(directory / "absent"));
  SLMI_EXPECT_ERROR(Input, "not a regular file", MappedFile::open(directory.path()));
  SLMI_EXPECT_ERROR(Input, "/dev/null: not a regular file", MappedFile::open("/dev/null"));
}

TEST(ScratchDirectory, IsOnesOwnAndGoneWithItsFiles) {
  std::filesystem::path first, second;
  {
    const ScratchDirectory one("slmi-test"), other("slmi-test");
    first = one.path();
    second = other.path();
    EXPECT_NE(first, second);
    EXPECT_EQ(std::filesystem::status(first).permissions(), std::filesystem::perms::owner_all);
    write_all(first / "f", "text");
  }
  EXPECT_FALSE(std::filesystem::exists(first));
  EXPECT_FALSE(std::filesystem::exists(second));
}

}  // namespace
}  // namespace slmi
