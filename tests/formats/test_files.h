// Helpers of the formats tests: a temporary directory, raw files, and errors checked by kind and text.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "../base/temporary_directory.h"
#include "slmi/base/error.h"

namespace slmi::formats {

inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(SLMI_SOURCE_DIR) / "tests/formats/golden" / name;
}

inline void write_text(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

/// `action` throws Error{kind} whose message holds each of `parts`.
inline void expect_error(ErrorKind kind, const std::vector<std::string>& parts, const std::function<void()>& action) {
  try {
    action();
    ADD_FAILURE() << "no error; expected one with: " << (parts.empty() ? "" : parts[0]);
  } catch (const Error& e) {
    EXPECT_EQ(static_cast<int>(e.kind()), static_cast<int>(kind)) << e.what();
    for (const auto& part : parts) EXPECT_THAT(e.what(), testing::HasSubstr(part));
  }
}

inline void expect_input_error(const std::vector<std::string>& parts, const std::function<void()>& action) {
  expect_error(ErrorKind::Input, parts, action);
}

}  // namespace slmi::formats
