// What `slmi train` can be told: one field list for flags, JSON file and help.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "slmi/config/config.h"
#include "slmi/config/fields.h"
#include "slmi/model/llama.h"
#include "slmi/ops/optimizer.h"

namespace slmi::train {

enum class ComputeChoice { Auto, F32, BF16, F16 };
enum class Schedule { Cosine, Linear, Constant };
enum class OverLongRows { Refuse, Skip };

// What several commands let one choose.
inline config::Choice<model::BaseFormat> base_formats() {
  using enum model::BaseFormat;
  return {{"stored", Stored}, {"nf4", NF4}, {"bf16", BF16}, {"f16", F16}, {"f32", F32}};
}
inline config::Choice<ComputeChoice> compute_choices() {
  using enum ComputeChoice;
  return {{"auto", Auto}, {"f32", F32}, {"bf16", BF16}, {"f16", F16}};
}
inline config::Choice<model::SavePolicy> save_policies() {
  using enum model::SavePolicy;
  return {{"all", All}, {"light", Light}, {"none", None}};
}
inline config::Choice<ops::MomentBits> optimizers() {
  return {{"adamw", ops::MomentBits::F32}, {"adamw_8bit", ops::MomentBits::Eight}};
}

inline constexpr const char* kCommTimeoutHelp =
    "With several ranks, how long one may stay away before the others stop; in training longer than a step takes";

struct LoraConfig {
  int64_t rank = 16;
  double alpha = 32.0;
  double dropout = 0.0;
  std::vector<std::string> targets = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};

  template <class V>
  static void fields(V&& field) {
    using namespace config;
    field("rank", &LoraConfig::rank, Range{1, 256}, Synonyms{"r", "lora-r"},
          "Rank R of the update; memory and capacity grow with it");
    field("alpha", &LoraConfig::alpha, Range{0.01, 1024}, "Scale: the update is (alpha / rank) * B * A");
    field("dropout", &LoraConfig::dropout, Range{0, 0.9}, "Share of the adapters' input channels dropped in training");
    field("targets", &LoraConfig::targets, Flag{"targets"}, CommaSeparated{}, Synonyms{"target-modules"},
          OneOf{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
          "Projections that get an adapter");
  }
};

struct TrainConfig {
  std::string base;
  std::vector<std::string> data, val;
  std::string out, resume;
  std::string init_adapter;
  LoraConfig lora;
  double lr = 1e-3;
  double epochs = 1.0;
  int64_t max_steps = 0;
  int64_t batch_size = 8;
  int64_t micro_tokens = 4096;
  int64_t max_seq_len = 2048;
  OverLongRows over_long = OverLongRows::Refuse;
  double warmup_ratio = 0.1;
  Schedule schedule = Schedule::Linear;
  double weight_decay = 0.0;
  double adam_beta2 = 0.95;
  double max_grad_norm = 0.3;
  ops::MomentBits optimizer = ops::MomentBits::F32;
  int64_t seed = 0;
  model::BaseFormat base_format = model::BaseFormat::Stored;
  ComputeChoice compute = ComputeChoice::Auto;
  /// At the logits a target's gradient is at most 1, so that the largest power of two there is 32,768. This one leaves
  /// blocks room to multiply it by 16, and gradients of 1.5e-8 all their bits; GradScaler's 65,536 is for a mean loss.
  double initial_loss_scale = 4096.0;
  model::SavePolicy activations = model::SavePolicy::All;
  bool shared_prefix = true;
  int64_t rows_together = 1;
  std::string prompt_template, system;
  std::string text_field = "text", answer_field = "answer";
  int64_t limit = 0;
  int64_t eval_every = 0;
  int64_t val_rows = 200;
  int64_t max_new_tokens = 128;
  int64_t patience = 0;
  int64_t checkpoint_every = 100;
  int64_t keep_checkpoints = 2;
  std::string device = "auto";
  bool cuda_graphs = true;
  bool deterministic = false;
  int64_t threads = 0;
  double comm_timeout = 60.0;
  int64_t show_batch = 0;
  bool dry_run = false;

  template <class V>
  static void fields(V&& field);
  void check(std::vector<std::string>& problems) const;
};

template <class V>
void TrainConfig::fields(V&& field) {
  using namespace config;
  using T = TrainConfig;
  field("base", &T::base, Group{"Model and data"}, Metavar{"MODEL"}, Synonyms{"model", "model-name", "base-model"},
        "The model to start from: a Hugging Face directory or a GGUF file");
  field("data", &T::data, Metavar{"FILE"}, Synonyms{"dataset", "train-file", "train-data"},
        "Training rows, JSONL; may be repeated");
  field("val", &T::val, Metavar{"FILE"}, Synonyms{"eval-file", "validation"},
        "Validation rows, JSONL; picks the best checkpoint");
  field("out", &T::out, Metavar{"DIR"}, Synonyms{"output-dir", "output"}, "The run directory to write");
  field("resume", &T::resume, Metavar{"RUN"}, Synonyms{"resume-from-checkpoint"},
        "Go on with an interrupted run; all else comes from it");
  field("init_adapter", &T::init_adapter, Metavar{"DIR"}, "Start from this PEFT adapter instead of a fresh one");
  field("limit", &T::limit, AtLeast{0}, "Use only the first N training rows (0: all)");
  field("text_field", &T::text_field, "Name of the request's field in intent rows");
  field("answer_field", &T::answer_field, "Name of the target's field in intent rows");
  field("template", &T::prompt_template, Metavar{"NAME|FILE"}, Synonyms{"chat-template"},
        DefaultText{"the model's own"}, "Chat template: llama3, chatml, plain, or a JSON file");
  field("system", &T::system, Metavar{"TEXT|FILE"}, "System turn for rows that bring none");
  field("lora", &T::lora, Group{"Adapter"});
  field("lr", &T::lr, Group{"Optimization"}, Above{0}, Synonyms{"learning-rate"}, "Peak learning rate");
  field("epochs", &T::epochs, Above{0}, Synonyms{"num-train-epochs", "num-epochs"}, "Passes over the data");
  field("max_steps", &T::max_steps, AtLeast{0}, "Stop after N optimizer steps (0: by epochs)");
  field("batch_size", &T::batch_size, AtLeast{1}, Synonyms{"per-device-train-batch-size", "train-batch-size"},
        "Rows of an optimizer step, over all micro-batches");
  field("micro_tokens", &T::micro_tokens, AtLeast{16}, Synonyms{"gradient-accumulation-steps"},
        "Tokens computed at once; a step is cut to this, memory grows with it");
  field("max_seq_len", &T::max_seq_len, AtLeast{16}, Synonyms{"max-seq-length", "max-length"},
        "Longest row in tokens, target included");
  field("over_long", &T::over_long,
        Choice<OverLongRows>{{"refuse", OverLongRows::Refuse}, {"skip", OverLongRows::Skip}},
        "Rows longer than that: an error, or a counted skip");
  field("warmup_ratio", &T::warmup_ratio, Range{0, 1}, "Share of the steps over which the rate rises");
  field("schedule", &T::schedule,
        Choice<Schedule>{{"cosine", Schedule::Cosine}, {"linear", Schedule::Linear}, {"constant", Schedule::Constant}},
        Synonyms{"lr-scheduler-type"}, "How the rate falls after the warm-up");
  field("weight_decay", &T::weight_decay, AtLeast{0}, "AdamW's decoupled weight decay");
  field("adam_beta2", &T::adam_beta2, Range{0, 0.99999},
        "How long AdamW remembers squared gradients; runs of a few hundred steps want less than the usual 0.999");
  field("optimizer", &T::optimizer, optimizers(), Synonyms{"optim"},
        "adamw_8bit keeps AdamW's moments in 8 bits: a quarter of their memory, for large ranks");
  field("max_grad_norm", &T::max_grad_norm, AtLeast{0}, "Clip the gradient to this norm (0: never)");
  field("seed", &T::seed, AtLeast{0}, "Seed of adapter, order and dropout");
  field("base_format", &T::base_format, Group{"Numbers and memory"}, base_formats(),
        Synonyms{"load-in-4bit", "bnb-4bit-quant-type"},
        "How the frozen base is held; nf4 is QLoRA, stored keeps a GGUF file's blocks");
  field("compute", &T::compute, compute_choices(), Synonyms{"bf16", "fp16", "dtype"},
        "Type of the products; auto takes bf16 where this machine is fast in it, f16 on GPUs that have no bf16");
  field("initial_loss_scale", &T::initial_loss_scale, Range{1, 16777216},
        "With f16, what gradients are multiplied by at first, a power of two; it adapts to what f16 can hold");
  field("activations", &T::activations, save_policies(), Synonyms{"gradient-checkpointing"},
        "Activations kept for the backward pass; none is full checkpointing");
  field("shared_prefix", &T::shared_prefix, "Compute an instruction that rows share once a micro-batch");
  field("rows_together", &T::rows_together, AtLeast{1},
        "Rows of one shared instruction that follow each other, so that a step has fewer instructions to compute");
  field("device", &T::device, OneOf{"auto", "cpu", "cuda"}, "Where to train");
  field("cuda_graphs", &T::cuda_graphs, "On a GPU, record passes that recur and replay them: one launch for thousands");
  field("deterministic", &T::deterministic,
        "On a GPU, the same bytes from run to run, as on a CPU always; long rows take more time and memory");
  field("threads", &T::threads, AtLeast{0}, "CPU threads (0: all)");
  field("comm_timeout", &T::comm_timeout, Above{0}, Metavar{"SECONDS"}, kCommTimeoutHelp);
  field("eval_every", &T::eval_every, Group{"Validation and checkpoints"}, AtLeast{0},
        "Validate every N steps (0: after each epoch)");
  field("val_rows", &T::val_rows, AtLeast{0}, "Validation rows to use (0: all)");
  field("max_new_tokens", &T::max_new_tokens, AtLeast{1}, "Longest answer in validation");
  field("patience", &T::patience, AtLeast{0}, "Stop after N validations without a better one (0: never)");
  field("checkpoint_every", &T::checkpoint_every, AtLeast{0}, Synonyms{"save-steps"},
        "Checkpoint every N steps (0: at the end only)");
  field("keep_checkpoints", &T::keep_checkpoints, AtLeast{1}, Synonyms{"save-total-limit"},
        "Checkpoints kept; the best adapter is kept anyway");
  field("show_batch", &T::show_batch, Group{"Look before training"}, AtLeast{0},
        "Print the first N rows as the model sees them, and stop");
  field("dry_run", &T::dry_run, "Print rows, lengths, memory and time to expect, and stop");
}

}  // namespace slmi::train
