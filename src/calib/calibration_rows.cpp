// Choosing, cutting and packing calibration rows; see the header.
#include "slmi/calib/calibration_rows.h"

#include <ATen/ATen.h>
#include <algorithm>
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

/// As many of the rows, spread evenly over them, as have about `total` tokens; one at least.
template <class Length>
std::vector<int64_t> within_total(std::vector<int64_t> rows, const Length& length_of, int64_t total) {
  int64_t tokens = 0;
  for (const int64_t row : rows) tokens += length_of(row);
  if (tokens <= total) return rows;
  const double share = static_cast<double>(total) / static_cast<double>(tokens);
  const auto size = static_cast<int64_t>(rows.size());
  std::vector<int64_t> out;
  for (const int64_t i : spread(size, std::max<int64_t>(1, static_cast<int64_t>(share * static_cast<double>(size)))))
    out.push_back(rows[static_cast<size_t>(i)]);
  return out;
}

/// Of each batch, f32 [T, 1].
std::vector<at::Tensor> root_weights(const CalibrationRows& rows, double answer_weight) {
  std::vector<at::Tensor> out;
  double sum = 0;
  for (const auto& batch : rows.batches) {
    at::Tensor weight = at::ones({batch.num_tokens, 1}, batch.tokens.options().dtype(at::kFloat));
    weight.index_fill_(0, batch.target_rows, answer_weight);
    sum += weight.sum().item<double>();
    out.push_back(std::move(weight));
  }
  for (auto& weight : out) weight.mul_(static_cast<double>(rows.num_tokens) / sum).sqrt_();
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
  encode.max_seq_len = CalibrationOptions::kNoLimit;  // cut below
  return take_calibration_rows(data::EncodedDataset::encode(set, prompts, encode), options, device);
}

CalibrationRows take_calibration_rows(const data::EncodedDataset& dataset, const CalibrationOptions& options,
                                      at::Device device) {
  const auto length_of = [&](int64_t row) {
    return std::min(static_cast<int64_t>(dataset.ids(row).size()), options.max_tokens);
  };
  const auto chosen = within_total(spread(dataset.size(), options.max_rows), length_of, options.total_tokens);
  CalibrationRows out;
  out.num_rows = static_cast<int64_t>(chosen.size());
  Sha256 hash;
  std::vector<data::EncodedDataset::Encoded> cut;
  for (const int64_t i : chosen) {
    const auto ids = dataset.ids(i);
    const int64_t length = length_of(i);
    out.num_cut += length < static_cast<int64_t>(ids.size()) ? 1 : 0;
    data::EncodedDataset::Encoded row;
    row.ids.assign(ids.begin(), ids.begin() + length);
    row.target_begin = std::min(length, dataset.target_begin(i));
    hash.update(std::as_bytes(std::span(row.ids)));
    hash.update(std::as_bytes(std::span(&length, 1)));
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
  out.answer_weight = options.answer_weight;
  out.root_weights = root_weights(out, options.answer_weight);
  return out;
}

}  // namespace slmi::calib
