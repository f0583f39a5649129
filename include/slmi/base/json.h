// JSON in and out: nlohmann-json with errors that name file, line and column.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

// Compiled once, in json_class.cpp: the class is most of what a file that uses JSON has to compile.
extern template class nlohmann::basic_json<nlohmann::ordered_map>;

namespace slmi {

/// Keys keep their order, so that what we write is deterministic and reads as it was written.
using Json = nlohmann::ordered_json;

enum class JsonComments { Refuse, Accept };
enum class RepeatedKeys {
  Refuse,
  LastCounts,  // as in Python and JavaScript; RFC 8259, 4, leaves it open
};

struct JsonLimits {
  uint64_t max_depth = 64;
  JsonComments comments = JsonComments::Refuse;
  RepeatedKeys repeated_keys = RepeatedKeys::Refuse;
};

/// Parses one JSON value; `source` names it in errors (a file, or "file:12" for a line of JSONL).
/// Duplicate keys (unless allowed), nesting beyond the limit, invalid UTF-8 and trailing text are errors.
/// @throws Error{Input} "source:line:column: what was found".
Json parse_json(std::string_view text, std::string_view source, JsonLimits limits = {});

/// The same, from a file. A byte-order mark is an error that says so.
Json read_json_file(const std::string& path, JsonLimits limits = {});

struct TextPosition {
  uint64_t line = 1, column = 1;  // both from 1; the column counts bytes
};
/// Line and column of a byte offset.
TextPosition position_of(std::string_view text, uint64_t byte);

/// Compact text with ", " and ": " separators, UTF-8 unescaped: Python's json.dumps(value, ensure_ascii=False).
/// This is the answer form that slmi trains on. @throws Error{Input} if a string is not valid UTF-8.
std::string dump_spaced(const Json& value);

/// True if `text` is valid UTF-8 (no surrogates, no overlong forms, at most U+10FFFF); else *bad gets the first bad
/// byte.
bool is_valid_utf8(std::string_view text, uint64_t* bad = nullptr);

}  // namespace slmi
