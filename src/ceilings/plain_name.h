// Names as people type them: letter case, blanks, '-' and '_' do not count.
#pragma once

#include <cctype>
#include <string>
#include <string_view>

namespace slmi::ceilings {

/// "RTX 4090", "rtx-4090" and "RTX_4090" are all "rtx4090".
inline std::string plain_name(std::string_view name) {
  std::string out;
  for (const char c : name)
    if (c != ' ' && c != '-' && c != '_') out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

}  // namespace slmi::ceilings
