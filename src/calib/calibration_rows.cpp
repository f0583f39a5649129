// Choosing, cutting and packing calibration rows; see the header.
#include "slmi/calib/calibration_rows.h"

#include <algorithm>
#include <numeric>

#include "slmi/base/error.h"
#include "slmi/base/sha256.h"
#include "slmi/data/packing.h"

namespace slmi::calib {

CalibrationRows take_calibration_rows(const data::EncodedDataset& dataset, const CalibrationOptions& options,
                                      at::Device device) {
  require(dataset.size() > 0, ErrorKind::Input, "no calibration rows: give some with --calibration FILE");
  CalibrationRows out;
  out.num_rows = std::min(options.max_rows, dataset.size());
  Sha256 hash;
  std::vector<data::EncodedDataset::Encoded> cut;
  for (int64_t i = 0; i < out.num_rows; ++i) {
    const auto ids = dataset.ids(i * dataset.size() / out.num_rows);
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
