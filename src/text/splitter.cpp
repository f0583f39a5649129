// Names of the patterns.
#include "splitter.h"

namespace slmi::text {

std::string_view split_pattern_name(SplitPattern pattern) {
  switch (pattern) {
    case SplitPattern::Llama3:
      return "llama3";
    case SplitPattern::Gpt2:
      return "gpt2";
    case SplitPattern::SmolLm:
      return "smollm";
  }
  return "";
}

}  // namespace slmi::text
