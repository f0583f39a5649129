// Logging: a thin front of spdlog, to standard error, so that results on standard output stay clean.
#pragma once

#include <spdlog/spdlog.h>

#include <string>

namespace slmi {

enum class LogLevel { Quiet, Normal, Debug };

/// Sets up the one logger of the process. Call once, from main.
void start_logging(LogLevel level);

}  // namespace slmi
