// Answers and the rows that they belong to; see the header.
#include "system.h"

#include <string_view>
#include <unordered_map>
#include <utility>

#include "slmi/base/error.h"

namespace slmi::eval {

void match_rows(System& system, const data::RowSet& set) {
  std::unordered_map<std::string_view, int64_t> by_id;
  for (size_t i = 0; i < set.rows.size(); ++i) by_id.emplace(set.rows[i].id, static_cast<int64_t>(i));
  system.rows.clear();
  for (const auto& answer : system.answers) {
    const auto found = by_id.find(answer.id);
    require(found != by_id.end(), ErrorKind::Internal, "system '{}' answered '{}', which is no row", system.name,
            answer.id);
    system.rows.push_back(found->second);
  }
}

std::vector<RowAnswer> with_too_long(std::vector<RowAnswer> answers, const data::RowSet& set) {
  std::unordered_map<std::string, RowAnswer> by_id;
  for (auto& answer : answers) {
    const std::string id = answer.id;
    require(by_id.emplace(id, std::move(answer)).second, ErrorKind::Internal, "a model answered '{}' twice", id);
  }
  std::vector<RowAnswer> out;
  for (const auto& row : set.rows) {
    auto answered = by_id.extract(row.id);
    out.push_back(answered ? std::move(answered.mapped()) : RowAnswer{row.id, "", std::nullopt, false});
  }
  require(by_id.empty(), ErrorKind::Internal, "a model answered rows that the data set does not have");
  return out;
}

}  // namespace slmi::eval
