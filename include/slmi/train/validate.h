// Validation during training: loss and exact match of greedy answers.
#pragma once

#include <memory>

#include "slmi/comm/communicator.h"
#include "slmi/data/encoded_dataset.h"
#include "slmi/decode/generator.h"
#include "slmi/train/trainer.h"

namespace slmi::train {

/// Rows to validate on, encoded by the run's own prompt builder.
class Validator {
 public:
  Validator(std::shared_ptr<model::Llama> llama, const data::RowSet& rows, const data::EncodedDataset& encoded,
            std::shared_ptr<const text::PromptBuilder> prompts, std::vector<int64_t> stop_ids,
            const TrainConfig& config, comm::Communicator& ranks);
  /// On all ranks: each takes some of the rows.
  Validation operator()(int64_t step);

 private:
  double loss_of_this_rank();
  int64_t right_of_this_rank();
  std::shared_ptr<model::Llama> llama_;
  const data::RowSet& rows_;
  const data::EncodedDataset& encoded_;
  std::shared_ptr<const text::PromptBuilder> prompts_;
  const TrainConfig& config_;
  comm::Communicator& ranks_;
  decode::Generator generator_;
  decode::GenerateOptions options_;
  std::vector<int64_t> chosen_;  // rows of encoded_, spread evenly over the file
};

}  // namespace slmi::train
