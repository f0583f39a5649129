// JSON parsing with positions; see the header.
#include "slmi/base/json.h"

#include <algorithm>
#include <set>
#include <vector>

#include "slmi/base/error.h"
#include "slmi/base/mapped_file.h"

namespace slmi {
namespace {

/// Refuses duplicate keys and deep nesting while nlohmann-json parses.
class Guard {
 public:
  explicit Guard(const JsonLimits& limits) : limits_(limits) {}

  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      require(static_cast<uint64_t>(depth) < limits_.max_depth, ErrorKind::Input, "nested deeper than {} levels",
              limits_.max_depth);
      keys_.emplace_back();
    } else if (event == Event::key) {
      const bool is_new = keys_.back().insert(parsed.get<std::string>()).second;
      require(is_new || limits_.repeated_keys == RepeatedKeys::LastCounts, ErrorKind::Input, "key {} stands twice",
              parsed.dump());
    } else if (event == Event::object_end || event == Event::array_end) {
      keys_.pop_back();
    }
    return true;
  }

 private:
  const JsonLimits& limits_;
  std::vector<std::set<std::string>> keys_;
};

/// What the library says after its "[json.exception...] parse error at line 1, column 2: " preamble.
std::string reason_of(const std::string& what) {
  const auto at = what.find(": ");
  return at == std::string::npos ? what : what.substr(at + 2);
}

}  // namespace

TextPosition position_of(std::string_view text, uint64_t byte) {
  const auto before = text.substr(0, std::min<uint64_t>(byte, text.size()));
  TextPosition out;
  out.line += static_cast<uint64_t>(std::count(before.begin(), before.end(), '\n'));
  const auto newline = before.rfind('\n');
  out.column = before.size() - (newline == std::string_view::npos ? 0 : newline + 1) + 1;
  return out;
}

Json parse_json(std::string_view text, std::string_view source, JsonLimits limits) {
  const bool bom = text.starts_with("\xEF\xBB\xBF");
  require(!bom, ErrorKind::Input, "{}:1:1: starts with a byte-order mark; save it as plain UTF-8", source);
  Guard guard(limits);
  try {
    return Json::parse(
        text.begin(), text.end(),
        [&](int depth, Json::parse_event_t event, Json& parsed) { return guard(depth, event, parsed); },
        /*allow_exceptions=*/true, /*ignore_comments=*/limits.comments == JsonComments::Accept);
  } catch (const Json::parse_error& e) {
    const auto at = position_of(text, e.byte > 0 ? e.byte - 1 : 0);
    fail(ErrorKind::Input, "{}:{}:{}: not valid JSON: {}", source, at.line, at.column, reason_of(e.what()));
  } catch (const Json::exception& e) {
    fail(ErrorKind::Input, "{}: not valid JSON: {}", source, reason_of(e.what()));
  } catch (const Error& e) {
    fail(e.kind(), "{}: {}", source, e.what());
  }
}

Json read_json_file(const std::string& path, JsonLimits limits) {
  return parse_json(MappedFile::open(path).text(), path, limits);
}

namespace {

std::string dump_string(const std::string& text) {
  try {
    return Json(text).dump();
  } catch (const Json::exception& e) {
    fail(ErrorKind::Input, "cannot write a string as JSON: {}", reason_of(e.what()));
  }
}

void dump_into(const Json& value, std::string& out) {
  if (value.is_object()) {
    out += '{';
    bool first = true;
    for (const auto& [key, item] : value.items()) {
      if (!first) out += ", ";
      first = false;
      out += dump_string(key) + ": ";
      dump_into(item, out);
    }
    out += '}';
  } else if (value.is_array()) {
    out += '[';
    for (size_t i = 0; i < value.size(); ++i) {
      if (i > 0) out += ", ";
      dump_into(value[i], out);
    }
    out += ']';
  } else if (value.is_string()) {
    out += dump_string(value.get_ref<const std::string&>());
  } else {
    out += value.dump();
  }
}

}  // namespace

std::string dump_spaced(const Json& value) {
  std::string out;
  dump_into(value, out);
  return out;
}

bool is_valid_utf8(std::string_view text, uint64_t* bad) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0u; };
  const auto follows = [&](size_t i) { return (byte(i) & 0xC0u) == 0x80u; };
  size_t i = 0;
  while (i < text.size()) {
    const uint32_t b = byte(i);
    size_t n = 0;
    if (b < 0x80)
      n = 1;
    else if (b >= 0xC2 && b <= 0xDF && follows(i + 1))
      n = 2;
    else if (b >= 0xE0 && b <= 0xEF && follows(i + 1) && follows(i + 2) && !(b == 0xE0 && byte(i + 1) < 0xA0) &&
             !(b == 0xED && byte(i + 1) >= 0xA0))
      n = 3;
    else if (b >= 0xF0 && b <= 0xF4 && follows(i + 1) && follows(i + 2) && follows(i + 3) &&
             !(b == 0xF0 && byte(i + 1) < 0x90) && !(b == 0xF4 && byte(i + 1) >= 0x90))
      n = 4;
    if (n == 0) {
      if (bad != nullptr) *bad = i;
      return false;
    }
    i += n;
  }
  return true;
}

}  // namespace slmi
