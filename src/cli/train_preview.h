// slmi train --show-batch and --dry-run: what the model will see, and what it will cost.
#pragma once

#include <iosfwd>

#include "slmi/data/encoded_dataset.h"
#include "slmi/formats/checkpoint.h"
#include "slmi/model/llama.h"
#include "slmi/text/prompt_builder.h"
#include "slmi/train/config.h"

namespace slmi::cli {

/// Weights of the projections, over all blocks, and of the output matrix.
struct WeightCounts {
  int64_t blocks = 0, head = 0;
};
WeightCounts count_weights(const formats::LlamaConfig& config);

/// Floating-point operations of the frozen base's products, forward and input gradient, for so many tokens computed and
/// targets among them.
double product_operations(const WeightCounts& weights, int64_t tokens, int64_t targets);

/// The first `count` rows as the model sees them: text with targets coloured (on a terminal), ids, and where the shared
/// part ends.
void show_batch(const data::EncodedDataset& rows, const data::RowSet& set, const text::PromptBuilder& prompts,
                int64_t count, std::ostream& out);

/// Rows, lengths, steps, and the memory and time to expect on this machine, from a probe of its products.
void dry_run(const data::EncodedDataset& rows, const formats::Checkpoint& base, const model::LoadOptions& load,
             const train::TrainConfig& config, std::ostream& out);

}  // namespace slmi::cli
