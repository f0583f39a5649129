// From rows to an encoded data set, through the one prompt builder; see encoded_dataset.h.
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "slmi/base/error.h"
#include "slmi/base/parallel.h"
#include "slmi/data/encoded_dataset.h"
#include "slmi/text/prompt_builder.h"

namespace slmi::data {
namespace {

std::string name_of(const RowSet& set, const Row& row) {
  return fmt::format("{}: row '{}'", place_of(set, row), row.id);
}

EncodedDataset::Encoded encode_row(const RowSet& set, const Row& row, const text::PromptBuilder& builder) {
  try {
    const auto answer = row.has_answer ? std::optional<std::string_view>(row.answer) : std::nullopt;
    text::Encoded encoded = builder.build(row.messages, answer);
    return {std::move(encoded.ids), encoded.target_begin, encoded.prefix_len};
  } catch (const Error& e) {
    fail(e.kind(), "{}: {}", name_of(set, row), e.what());
  }
}

}  // namespace

EncodedDataset EncodedDataset::encode(const RowSet& set, const text::PromptBuilder& builder,
                                      const EncodeOptions& options) {
  std::vector<Encoded> rows(set.rows.size());
  parallel_for(static_cast<int64_t>(rows.size()), [&](int64_t begin, int64_t end, int) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      rows[i] = encode_row(set, set.rows[i], builder);
    }
  });
  return build(std::move(rows), options, [&](int64_t i) { return name_of(set, set.rows[static_cast<size_t>(i)]); });
}

}  // namespace slmi::data
