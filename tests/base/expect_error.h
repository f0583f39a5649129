// Runs a body that must throw slmi::Error, and hands the error's parts to the test.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "slmi/base/error.h"

namespace slmi {

/// Message of the Error{kind} that body() throws; a test failure if it throws none or another kind.
template <class Body>
std::string error_of(ErrorKind kind, Body&& body) {
  try {
    body();
  } catch (const Error& e) {
    EXPECT_EQ(static_cast<int>(e.kind()), static_cast<int>(kind)) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return {};
}

}  // namespace slmi

/// The error's message must contain the text.
#define SLMI_EXPECT_ERROR(kind, text, ...)                                                            \
  do {                                                                                                \
    const std::string slmi_message = ::slmi::error_of(::slmi::ErrorKind::kind, [&] { __VA_ARGS__; }); \
    EXPECT_NE(slmi_message.find(text), std::string::npos) << "message: " << slmi_message;             \
  } while (false)
