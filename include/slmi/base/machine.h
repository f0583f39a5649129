// What the system says of the machine that this process runs on.
#pragma once

#include <string>

namespace slmi {

/// The value of the first line that starts with `key` and holds `separator`, without blanks and quotes around it; "" if
/// there is no such line or file.
std::string value_in_file(const char* path, const std::string& key, char separator);

/// "AMD EPYC 9R14 96-Core Processor"; where the kernel names no processor (Arm), the board; "" if neither is known.
std::string processor_name();

/// Of the first NVIDIA GPU, as its driver gives it; "GPU" if it does not.
std::string gpu_name();

}  // namespace slmi
