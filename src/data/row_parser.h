// One line of JSONL -> one Row, with every problem of the line noted at its column.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "slmi/data/row.h"
#include "slmi/data/row_reader.h"

namespace slmi::data {

struct RowProblem {
  uint64_t column = 1;  // byte, from 1
  std::string what;
};

/// Parses one line (no line feed in it). Problems are appended; with none appended, `row` is whole. A row that brings
/// no id keeps the one it had.
void parse_row(std::string_view line, const ReadOptions& options, Row& row, std::vector<RowProblem>& problems);

}  // namespace slmi::data
