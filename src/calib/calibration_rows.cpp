// Choosing, cutting and packing calibration rows; see the header.
#include "slmi/calib/calibration_rows.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "slmi/base/error.h"
#include "slmi/base/sha256.h"
#include "slmi/data/packing.h"

namespace slmi::calib {
namespace {

/// Indices of `wanted` of `size` rows, spread evenly; all of them if there are fewer.
std::vector<int64_t> spread(int64_t size, int64_t wanted) {
  require(size > 0 && wanted > 0, ErrorKind::Input, "no calibration rows: give some with --calibration FILE");
  std::vector<int64_t> out(static_cast<size_t>(std::min(size, wanted)));
  const auto n = static_cast<int64_t>(out.size());
  for (int64_t i = 0; i < n; ++i) out[static_cast<size_t>(i)] = i * size / n;
  return out;
}

}  // namespace

CalibrationRows take_calibration_rows(data::RowSet set, const text::PromptBuilder& prompts,
                                      const CalibrationOptions& options, at::Device device) {
  std::vector<data::Row> some;
  for (const int64_t i : spread(static_cast<int64_t>(set.rows.size()), options.max_rows))
    some.push_back(std::move(set.rows[static_cast<size_t>(i)]));
  set.rows = std::move(some);
  data::EncodeOptions encode;
  encode.max_seq_len = std::numeric_limits<int64_t>::max();  // cut below
  return take_calibration_rows(data::EncodedDataset::encode(set, prompts, encode), options, device);
}

CalibrationRows take_calibration_rows(const data::EncodedDataset& dataset, const CalibrationOptions& options,
                                      at::Device device) {
  const auto chosen = spread(dataset.size(), options.max_rows);
  CalibrationRows out;
  out.num_rows = static_cast<int64_t>(chosen.size());
  Sha256 hash;
  std::vector<data::EncodedDataset::Encoded> cut;
  for (const int64_t i : chosen) {
    const auto ids = dataset.ids(i);
    const auto length = std::min<size_t>(ids.size(), static_cast<size_t>(options.max_tokens));
    out.num_cut += length < ids.size() ? 1 : 0;
    data::EncodedDataset::Encoded row;
    row.ids.assign(ids.begin(), ids.begin() + static_cast<int64_t>(length));
    row.target_begin = static_cast<int64_t>(length);
    hash.update(std::as_bytes(std::span(row.ids)));
    hash.update(std::as_bytes(std::span(&row.target_begin, 1)));
    cut.push_back(std::move(row));
  }
  out.hash = hash.hex();
  const auto rows = data::EncodedDataset::from_ids(std::move(cut), {options.max_tokens, data::OverLong::Refuse});
  std::vector<int64_t> all(static_cast<size_t>(rows.size()));
  std::iota(all.begin(), all.end(), int64_t{0});
  constexpr auto kWhole = data::SharedPrefix::Off;
  for (const auto& micro : data::cut_into_micro_batches(rows, all, {options.batch_tokens, kWhole, 1})) {
    out.batches.push_back(model::to_device(data::pack(rows, micro, kWhole), device));
    out.num_tokens += out.batches.back().num_tokens;
  }
  return out;
}

}  // namespace slmi::calib
