// The model core: a Llama as embed / block / head, forward and backward, for training, calibration, prefill and
// decoding.
//
// Letters: T tokens, D width, H heads, HK kv heads, E head width, F ffn width, V vocabulary, R LoRA rank, P target
// rows.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "slmi/formats/checkpoint.h"
#include "slmi/formats/llama_config.h"
#include "slmi/model/kv_cache.h"
#include "slmi/model/lora.h"
#include "slmi/ops/attention.h"
#include "slmi/ops/linear_group.h"
#include "slmi/ops/packed_matrix.h"
#include "slmi/ops/rope.h"

namespace slmi::model {

/// How the base's matrices are held: as stored in the file, or converted when loaded. Auto is Stored, but a GPU then
/// holds GGUF blocks as numbers of the compute type: decoding is faster than where each token unpacks all of them.
enum class BaseFormat { Auto, Stored, NF4, BF16, F16, F32 };

/// When the resident weights are made: at once, or by the attach() that follows, which decides how wide they are. Made
/// twice, they leave holes in the heap of their whole size.
enum class ResidentWeights { AtLoad, AtAttach };

/// Absent: norms, embedding and head alone are loaded; whoever calls fills the blocks' groups, one block at a time.
enum class BlockWeights { Loaded, Absent };

struct LoadOptions {
  BaseFormat base_format = BaseFormat::Stored;
  /// With Auto: projections take their values from NF4, as the training of the adapter to come saw them; a GPU holds
  /// these values as numbers of the compute type.
  bool through_nf4 = false;
  ops::NumericsPolicy policy;
  at::Device device = at::kCPU;
  /// Resident keeps all matrices in the compute type too: fastest, 2 or 4 bytes a weight.
  ops::Residency residency = ops::Residency::Resident;
  ResidentWeights resident_weights = ResidentWeights::AtLoad;
  BlockWeights block_weights = BlockWeights::Loaded;
};

/// What a forward pass is given besides the tokens.
struct ForwardContext {
  at::Tensor positions;  // i32 [T]
  ops::AttentionPlan plan;
  /// With a cache, the K and V of this call's tokens go to cache_rows first, and the plan's key rows are cache rows.
  KvCache* cache = nullptr;
  at::Tensor cache_rows;  // i64 [T]
  const ops::DropoutContext* dropout = nullptr;
  /// Calibration looks at each group's input [T, K]; free when absent.
  std::function<void(const ops::LinearSite& first_site, const at::Tensor& x)> observer;
};

/// Which activations a block keeps for its backward pass; this list is activation checkpointing.
enum class SavePolicy {
  All,    // every input of a product, but a SwiGLU output whose adapter's gradient comes with that of SwiGLU
  Light,  // not the normed inputs and the SwiGLU output, which are made again
  None,   // the block's input alone; the block runs forward again
};

/// What block_forward keeps. Undefined tensors are made again in block_backward.
struct BlockSaved {
  at::Tensor input;                 // f32 [T, D]; with SavePolicy::None on a GPU in the compute type
  at::Tensor middle;                // f32 [T, D], after attention's residual
  at::Tensor rstd1, rstd2;          // f32 [T]
  at::Tensor qkv_in;                // [T, D + 3R]: the normed input and x A^T
  at::Tensor qkv;                   // [T, (H + 2 HK) E], rotated
  at::Tensor attention;             // [T, H*E]
  at::Tensor lse;                   // f32 [T, H]
  at::Tensor mlp_in;                // [T, D + 2R]
  at::Tensor gate_up;               // [T, 2F]
  at::Tensor activation;            // [T, F + R]
  at::Tensor output_u;              // [T, R]: the x A^T of attention
  at::Tensor qkv_u, mlp_u, down_u;  // the x A^T of qkv_in, mlp_in and activation, where those are not kept
};

/// The gradient of the residual stream on its way down the blocks.
struct HiddenGradient {
  at::Tensor values;  // f32 [T, D]
  /// The same as the next backward product takes it, in a buffer of that group's gradient_width; undefined: made when
  /// it is needed.
  at::Tensor rounded;
};

class Llama {
 public:
  /// @throws Error{Input} if tensors are missing or of the wrong shape.
  static std::shared_ptr<Llama> load(const formats::Checkpoint& checkpoint, const LoadOptions& options);

  const formats::LlamaConfig& config() const { return config_; }
  const LoadOptions& options() const { return options_; }
  at::Device device() const { return options_.device; }
  at::ScalarType compute_type() const { return ops::scalar_type(options_.policy.compute); }
  uint64_t packed_bytes() const;

  /// Gives every projection its adapter; the Lora must outlive the model or be detached.
  void attach(const Lora& lora);
  void detach();
  /// Takes over changed adapter values; after every optimizer step.
  void refresh_adapters();

  /// tokens i32 [T] -> hidden f32 [T, D].
  at::Tensor embed(const at::Tensor& tokens) const;
  /// What a block's first norm makes of its input.
  struct NormedInput {
    at::Tensor values;  // [T, D + 3R], the last columns not yet written; undefined: the block makes it
    at::Tensor rstd;    // f32 [T]
  };
  /// One block, hidden f32 [T, D] -> [T, D]. `saved` may be null (inference). `normed` is passed from block to block:
  /// the pass that ends one begins the next.
  at::Tensor block_forward(int64_t layer, const at::Tensor& hidden, const ForwardContext& context, SavePolicy policy,
                           BlockSaved* saved, NormedInput& normed) const;
  /// A block in steps, for calibration: each gives what one group of matrices is multiplied with, so that a group may
  /// be replaced before its product. hidden and middle f32 [T, D], the others in the compute type; without adapters.
  at::Tensor attention_input(int64_t layer, const at::Tensor& hidden) const;  // of q, k, v: [T, D]
  at::Tensor attend(int64_t layer, const at::Tensor& hidden, const ForwardContext& context) const;  // of o: [T, H*E]
  at::Tensor after_attention(int64_t layer, const at::Tensor& hidden, const at::Tensor& attention) const;  // middle
  at::Tensor mlp_input(int64_t layer, const at::Tensor& middle) const;  // of gate and up: [T, D]
  at::Tensor activate(int64_t layer, const at::Tensor& middle) const;   // of down: [T, F]
  at::Tensor after_mlp(int64_t layer, const at::Tensor& middle, const at::Tensor& activation) const;  // the output

  /// Gradient of the block's input from that of its output, in place; adapters' gradients are accumulated. Consumes
  /// `saved`. Layers are called from the last to the first.
  void block_backward(int64_t layer, HiddenGradient& d_hidden, const ForwardContext& context, BlockSaved& saved,
                      ops::LinearGroup::InputGradient wanted) const;
  /// Final norm and output matrix: hidden f32 [P, D] -> logits [P, V] in the compute type; and the two one by one.
  at::Tensor head(const at::Tensor& hidden) const;
  at::Tensor head_input(const at::Tensor& hidden) const;   // [P, D] in the compute type
  at::Tensor head_logits(const at::Tensor& normed) const;  // [P, V]

  /// All blocks: tokens i32 [T] -> hidden f32 [T, D] (before the final norm).
  at::Tensor forward(const at::Tensor& tokens, const ForwardContext& context) const;

  /// Losses of all target rows, with the gradient of their sum, times `scale` (f32 [1]; undefined: 1), added to that of
  /// hidden, d_hidden (undefined: loss only).
  /// hidden, d_hidden f32 [T, D]; target_rows i64 [P]; target_ids i32 [P]. Returns f32 [P], one loss a target.
  /// Logits exist for a chunk of rows at a time.
  at::Tensor head_loss(const at::Tensor& hidden, const at::Tensor& target_rows, const at::Tensor& target_ids,
                       const at::Tensor& d_hidden, const at::Tensor& scale = {}) const;

  ops::AttentionShape attention_shape() const;
  /// Makes the rotary table long enough. Call before forward with the largest position + 1.
  void reserve_positions(int64_t n) { rope_.reserve(n); }
  /// The rotary table as it is now. A longer one has a place of its own: recorded work holds on to this one.
  const ops::RopeTable& rope() const { return rope_; }

  struct Block {
    at::Tensor norm1, norm2;  // f32 [D]
    ops::LinearGroup qkv, output, gate_up, down;
  };
  std::vector<Block>& blocks() { return blocks_; }
  const std::vector<Block>& blocks() const { return blocks_; }
  const ops::PackedMatrix& embedding() const { return embedding_; }
  /// The output matrix: the embedding where they are tied.
  const ops::PackedMatrix& output_matrix() const { return output_.defined() ? output_ : embedding_; }

 private:
  void attention_part(const Block& block, const at::Tensor& hidden, const ForwardContext& context, BlockSaved& s,
                      int64_t layer) const;
  at::Tensor attend_part(const Block& block, const at::Tensor& hidden, const ForwardContext& context, BlockSaved& s,
                         int64_t layer) const;
  void activate_part(const Block& block, const ForwardContext& context, BlockSaved& s) const;
  at::Tensor project(const ops::LinearGroup& group, const at::Tensor& x_ext, const ops::DropoutContext* dropout) const;
  bool makes_activation_again(const Block& block, const at::Tensor& gate_up, const ops::DropoutContext* dropout) const;
  void mlp_backward(const Block& block, const ops::DropoutContext* dropout, BlockSaved& s,
                    HiddenGradient& d_hidden) const;
  /// Takes the gradient of a norm's output on to the stream; `remade` as ops::rms_norm_backward.
  using NormBackward = std::function<void(const at::Tensor& dy, const at::Tensor& remade)>;
  void mlp_backward_piece(const Block& block, const at::Tensor& d_out, const ops::DropoutContext* dropout,
                          BlockSaved& s, const NormBackward& norm) const;
  void normed_backward(const ops::LinearGroup& group, const at::Tensor& dy_ext, at::Tensor& x_ext, at::Tensor& u,
                       const ops::DropoutContext* dropout, const NormBackward& norm) const;
  at::Tensor output_gradient(const ops::LinearGroup& group, HiddenGradient& d_hidden) const;
  void norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                     const ops::LinearGroup* next, HiddenGradient& d_hidden, const at::Tensor& remade) const;
  at::Tensor normed_input(const at::Tensor& x, const at::Tensor& weight, int64_t width, at::Tensor& rstd) const;
  at::Tensor add_and_norm(const at::Tensor& hidden, const at::Tensor& y, const at::Tensor& weight, int64_t width,
                          at::Tensor& normed, at::Tensor& rstd) const;
  at::Tensor head_weight() const;

  formats::LlamaConfig config_;
  LoadOptions options_;
  std::vector<Block> blocks_;
  ops::PackedMatrix embedding_, output_;  // output_ undefined: tied
  at::Tensor final_norm_, head_resident_;
  ops::RopeTable rope_;
};

}  // namespace slmi::model
