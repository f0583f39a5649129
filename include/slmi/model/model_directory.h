// A model directory that this program writes, merged or quantized: where it may lie, how its numbers are rounded, and
// its vocabulary.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "slmi/model/open.h"

namespace slmi::model {

/// Inside a model directory: what is being made, and not yet the model.
inline constexpr const char* kUnfinished = "unfinished";
/// In there: what is being made, of a job that can go on.
inline constexpr const char* kUnfinishedJob = "job.json";

/// `out` must be absent, empty, or a model that this program wrote or began, and none of the inputs.
/// @throws Error{Usage}.
void check_out(const ModelFiles& files, const std::filesystem::path& out);

/// Vocabulary and template of the model, as other programs read them. @param tokenizer as in OpenOptions.
/// @throws Error{Internal} if what was written reads as another tokenizer, Error{Output}.
void write_tokenizer(const ModelFiles& files, const std::filesystem::path& out, const std::string& tokenizer);

/// A model on its way into `out`. Its files are written into path(), a place inside `out`/unfinished; finish() puts
/// them where those of the old model were. Before finish() the old model is whole, and stays so after an error, a full
/// disk or a kill; inside of it, which is only renames, `out` has no config.json and so does not load, and the next
/// model written there takes its place. `out` may be a mount point: nothing beside it is touched.
class UnfinishedModel {
 public:
  /// Makes an empty place; what a process that was killed left there is gone. @throws Error{Output}.
  explicit UnfinishedModel(const std::filesystem::path& out);
  /// Removes the place; without finish() `out` is then as it was.
  ~UnfinishedModel();
  UnfinishedModel(const UnfinishedModel&) = delete;
  UnfinishedModel& operator=(const UnfinishedModel&) = delete;

  const std::filesystem::path& path() const { return place_; }
  /// Removes the old model's files, reports about it too, and moves the new ones up, config.json last; other files in
  /// `out` stay. @throws Error{Output}.
  void finish();

 private:
  std::filesystem::path out_, place_;
  bool is_new_;  // `out` was not there
};

/// The type that a tensor of the checkpoint gets in a model of `dtype` (F32, F16 or BF16): a norm that `dtype` cannot
/// hold exactly stays f32, so that the model's fingerprint is the base's.
formats::Dtype written_dtype(const formats::Checkpoint& checkpoint, const std::string& name, formats::Dtype dtype);

/// f32 values, each rounded once to `dtype`. @param what  the tensor in messages, "OUT: tensor 'x'".
/// @param advice  what to do where f16 ends, or "". @throws Error{Numeric} if a number is not finite after that.
std::vector<std::byte> rounded_bytes(const at::Tensor& values, formats::Dtype dtype, const std::string& what,
                                     const std::string& advice = "");

}  // namespace slmi::model
