// Fuzz target: JSONL rows. Whatever the bytes are, the reader returns sound rows or throws Error{Input} with places.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "slmi/base/error.h"
#include "slmi/base/json.h"
#include "slmi/base/parallel.h"
#include "slmi/data/row_reader.h"

namespace {

void check(bool condition) {
  if (!condition) std::abort();
}

void read(std::string_view text, const slmi::data::ReadOptions& options) {
  using namespace slmi::data;
  try {
    const RowSet set = parse_rows(text, "f", options);
    check(!set.rows.empty());
    for (const Row& row : set.rows) {
      check(!row.id.empty() && row.line > 0);
      check(!row.messages.empty() && row.messages.back().role == "user");
      check(row.has_answer || options.targets == Targets::Optional);
      check(!row.has_answer || !row.answer.empty());
      check(slmi::is_valid_utf8(row.answer));
      for (const auto& message : row.messages) check(slmi::is_valid_utf8(message.content));
    }
  } catch (const slmi::Error& e) {
    check(e.kind() == slmi::ErrorKind::Input);
    check(std::string_view(e.what()).starts_with("f:"));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool one_thread = [] {
    slmi::set_num_threads(1);
    return true;
  }();
  check(one_thread);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  read(text, {});
  read(text, {.text_field = "q", .answer_field = "a", .system_text = "S", .targets = slmi::data::Targets::Optional});
  return 0;
}
