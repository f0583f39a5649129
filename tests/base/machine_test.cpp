// Files of "key: value" lines, and libraries opened by name.
#include "slmi/base/machine.h"

#include <gtest/gtest.h>

#include "slmi/base/dynamic_library.h"
#include "temporary_directory.h"

namespace slmi {
namespace {

TEST(ValueInFile, FirstLineOfTheKeyWithoutBlanksAndQuotes) {
  const TemporaryDirectory dir;
  write_all(dir / "facts",
            "model name without a colon\nmodel name\t: A processor \nmodel name\t: another\nOS=\"A B\"\n");
  const std::string path = (dir / "facts").string();
  EXPECT_EQ(value_in_file(path.c_str(), "model name", ':'), "A processor");
  EXPECT_EQ(value_in_file(path.c_str(), "OS", '='), "A B");
  EXPECT_EQ(value_in_file(path.c_str(), "absent", ':'), "");
  EXPECT_EQ(value_in_file((dir / "absent").c_str(), "OS", '='), "");
}

TEST(DynamicLibrary, CallsWhatIsThereAndSaysWhatIsNot) {
  const DynamicLibrary c_library("libc.so.6");
  ASSERT_TRUE(c_library.found());
  EXPECT_EQ(c_library.call("abs", -7), 7);
  EXPECT_EQ(c_library.call("no_such_function", -7), DynamicLibrary::kNoFunction);
  const DynamicLibrary absent("libslmi-no-such-library.so.1");
  EXPECT_FALSE(absent.found());
  EXPECT_EQ(absent.call("abs", -7), DynamicLibrary::kNoFunction);
}

}  // namespace
}  // namespace slmi
