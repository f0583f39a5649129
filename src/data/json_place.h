// Where in a JSON text a value stands: for messages about values that are valid JSON and still wrong.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace slmi::data {

/// A key of an object or an index of an array.
using JsonStep = std::variant<std::string, uint64_t>;

/// Byte offset in `text` of the value that `path` leads to, as far as the path can be followed (the last value reached
/// otherwise). `text` should be valid JSON; on other text the result is some offset within it.
uint64_t find_value(std::string_view text, std::span<const JsonStep> path);

/// Byte offset of the first key that stands twice in one object of `text`; 0 if there is none before the text ends or
/// stops being JSON.
uint64_t find_repeated_key(std::string_view text);

}  // namespace slmi::data
