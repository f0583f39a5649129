// Validation during training: loss and exact match of greedy answers.
#pragma once

#include <memory>

#include "slmi/data/encoded_dataset.h"
#include "slmi/decode/generator.h"
#include "slmi/train/trainer.h"

namespace slmi::train {

/// Rows to validate on, encoded by the run's own prompt builder.
class Validator {
 public:
  Validator(std::shared_ptr<model::Llama> llama, const data::RowSet& rows, const data::EncodedDataset& encoded,
            std::shared_ptr<const text::PromptBuilder> prompts, std::vector<int64_t> stop_ids,
            const TrainConfig& config);
  Validation operator()(int64_t step);

 private:
  double mean_loss();
  std::shared_ptr<model::Llama> llama_;
  const data::RowSet& rows_;
  const data::EncodedDataset& encoded_;
  std::shared_ptr<const text::PromptBuilder> prompts_;
  const TrainConfig& config_;
  decode::Generator generator_;
  decode::GenerateOptions options_;
  std::vector<int64_t> chosen_;  // rows of encoded_, spread evenly over the file
};

}  // namespace slmi::train
