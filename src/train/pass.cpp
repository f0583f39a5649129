// Forward and backward of a micro-batch; see the header.
#include "slmi/train/pass.h"

#include <ATen/ATen.h>
#include <optional>

namespace slmi::train {
at::Tensor forward_backward(model::Llama& llama, const model::DeviceBatch& batch, model::SavePolicy save,
                            const ops::DropoutContext* dropout, const at::Tensor& scale,
                            const std::function<void(int64_t layer)>& after_backward) {
  using InputGradient = ops::LinearGroup::InputGradient;
  model::ForwardContext context = model::context_of(llama, batch);
  std::optional<ops::DropoutContext> masks;
  if (dropout != nullptr && dropout->probability > 0) {
    masks = *dropout;
    masks->row_keys = batch.dropout_keys;
    masks->positions = batch.positions;
    context.dropout = &*masks;
  }
  const int64_t layers = llama.config().num_layers;
  std::vector<model::BlockSaved> saved(static_cast<size_t>(layers));
  at::Tensor hidden = llama.embed(batch.tokens);
  model::Llama::NormedInput normed;
  for (int64_t i = 0; i < layers; ++i) {
    hidden = llama.block_forward(i, hidden, context, save, &saved[static_cast<size_t>(i)], normed);
    if (i == 0 && save == model::SavePolicy::None) saved.front() = {};  // the embedding: cheaper made again than kept
  }

  model::HiddenGradient d_hidden;
  d_hidden.values = at::zeros_like(hidden);
  const at::Tensor loss = llama.head_loss(hidden, batch.target_rows, batch.target_ids, d_hidden.values, scale);
  for (int64_t i = layers - 1; i >= 0; --i) {
    auto& of_block = saved[static_cast<size_t>(i)];
    if (!of_block.input.defined()) of_block.input = llama.embed(batch.tokens);
    llama.block_backward(i, d_hidden, context, of_block, i > 0 ? InputGradient::Wanted : InputGradient::Unwanted);
    if (after_backward) after_backward(i);
  }
  return loss.to(at::kDouble).sum();
}

}  // namespace slmi::train
