// What a row's prompt and target say; see the header.
#include "slmi/data/row.h"

#include <fmt/format.h>

#include "slmi/base/sha256.h"

namespace slmi::data {

const std::string_view kCatalogInstruction =
    "Turn the request into JSON with action, product and quantity. Products are named as in the list.";

std::string data_hash(const RowSet& set) {
  if (set.files.size() == 1) return set.files.front().sha256;
  Sha256 hash;
  for (const RowFile& file : set.files) hash.update(file.sha256);
  return hash.hex();
}

std::string place_of(const RowSet& set, const Row& row) {
  return fmt::format("{}:{}", set.files.at(static_cast<size_t>(row.file)).path, row.line);
}

std::string instruction_for(const std::vector<std::string>& catalog, std::string_view system_text) {
  if (catalog.empty()) return std::string(system_text);
  std::string out(system_text.empty() ? kCatalogInstruction : system_text);
  out += "\nProducts: ";
  for (size_t i = 0; i < catalog.size(); ++i) {
    if (i > 0) out += ", ";
    out += dump_spaced(Json(catalog[i]));
  }
  return out;
}

std::string intent_answer(std::string_view intent, bool has_slots, const Json& slots) {
  if (!has_slots) return std::string(intent);
  Json answer = Json::object();
  answer["intent"] = intent;
  answer["slots"] = slots;
  return dump_spaced(answer);
}

}  // namespace slmi::data
