// Logging set-up; see the header.
#include "slmi/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

namespace slmi {

void start_logging(LogLevel level) {
  auto logger = std::make_shared<spdlog::logger>("slmi", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern("%^%l%$: %v");
  spdlog::level::level_enum threshold = spdlog::level::info;
  if (level == LogLevel::Quiet) threshold = spdlog::level::warn;
  if (level == LogLevel::Debug) threshold = spdlog::level::debug;
  logger->set_level(threshold);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace slmi
