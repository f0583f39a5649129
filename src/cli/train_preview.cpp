// Previews of a training run; see the header.
#include "train_preview.h"

#include <unistd.h>

#include <algorithm>
#include <ostream>

#include "slmi/base/progress.h"
#include "slmi/ceilings/probe.h"
#include "slmi/data/packing.h"
#include "slmi/model/lora.h"
#include "slmi/train/trainer.h"

namespace slmi::cli {
namespace {

std::string visible(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '\n' ? std::string("\\n\n") : std::string(1, c);
  return out;
}

std::string ids_text(std::span<const int32_t> ids) {
  return fmt::format("{}", fmt::join(ids, " "));
}

/// Bytes of activations that one token keeps for the backward pass (BlockSaved), over all blocks.
int64_t activation_bytes_a_token(const formats::LlamaConfig& c, model::SavePolicy policy, int64_t element_bytes,
                                 bool keeps_swiglu) {
  const int64_t qkv = (c.num_heads + 2 * c.num_kv_heads) * c.head_dim, heads = c.num_heads * c.head_dim;
  int64_t block = 4 * c.hidden_size;
  if (policy != model::SavePolicy::None)
    block += 4 * c.hidden_size + element_bytes * (qkv + heads + 2 * c.intermediate_size);
  if (policy == model::SavePolicy::All)
    block += element_bytes * (2 * c.hidden_size + (keeps_swiglu ? c.intermediate_size : 0));
  return block * c.num_layers;
}

}  // namespace

WeightCounts count_weights(const formats::LlamaConfig& c) {
  WeightCounts out;
  for (const auto& module : model::all_projections()) {
    const auto [n, k] = model::projection_shape(c, module);
    out.blocks += n * k * c.num_layers;
  }
  out.head = c.vocab_size * c.hidden_size;
  return out;
}

double product_operations(const WeightCounts& weights, int64_t tokens, int64_t targets) {
  return 4.0 * (static_cast<double>(tokens) * static_cast<double>(weights.blocks) +
                static_cast<double>(targets) * static_cast<double>(weights.head));
}

void show_batch(const data::EncodedDataset& rows, const data::RowSet& set, const text::PromptBuilder& prompts,
                int64_t count, std::ostream& out) {
  const bool colour = ::isatty(STDOUT_FILENO) != 0;
  const std::string on = colour ? "\033[1;32m" : "[[", off = colour ? "\033[0m" : "]]";
  out << prompts.describe().summary() << "\ntargets are marked " << on << "so" << off << "\n";
  for (int64_t i = 0; i < std::min(count, rows.size()); ++i) {
    const auto ids = rows.ids(i);
    const auto target = static_cast<size_t>(rows.target_begin(i)), shared = static_cast<size_t>(rows.prefix_len(i));
    const auto& tokenizer = prompts.tokenizer();
    const auto text = [&](std::span<const int32_t> part) {
      return visible(tokenizer.decode(part, text::Specials::Keep));
    };
    out << "\n--- row " << i << " (" << data::place_of(set, set.rows[static_cast<size_t>(rows.source_row(i))])
        << "): " << ids.size() << " tokens, " << shared << " shared, " << rows.num_targets(i) << " targets\n"
        << text(ids.first(target)) << on << text(ids.subspan(target)) << off << "\n"
        << ids_text(ids.first(target)) << " " << on << ids_text(ids.subspan(target)) << off << "\n";
  }
}

void dry_run(const data::EncodedDataset& rows, const formats::Checkpoint& base, const model::LoadOptions& load,
             const train::TrainConfig& config, std::ostream& out) {
  const auto& lengths = rows.lengths();
  const auto& c = base.config();
  out << "rows      " << rows.size() << " to train on, " << rows.skipped().size() << " too long for --max-seq-len "
      << config.max_seq_len << "\ntokens    " << lengths.num_tokens << " (" << lengths.num_target_tokens
      << " targets); a row has " << lengths.min << " to " << lengths.max << ", median " << lengths.p50
      << ", 95 % at most " << lengths.p95 << "\n";
  for (const auto& bucket : lengths.buckets) {
    const auto bar = static_cast<size_t>(60 * bucket.num_rows / std::max<int64_t>(1, lengths.num_rows));
    out << fmt::format("  {:>5}..{:<5} {:>7} {}\n", bucket.begin, bucket.end - 1, bucket.num_rows,
                       std::string(bar, '#'));
  }
  const auto sharing = config.shared_prefix ? data::SharedPrefix::On : data::SharedPrefix::Off;
  const auto plan = data::make_plan(rows, config.batch_size, static_cast<uint64_t>(config.seed), config.rows_together);
  int64_t computed = 0, targets = 0, largest = 0;
  const int64_t per_epoch = data::steps_per_epoch(plan), total = train::total_steps(config, rows.size());
  for (int64_t s = 0; s < per_epoch; ++s) {
    for (const auto& micro :
         data::cut_into_micro_batches(rows, data::plan_step(plan, 0, s), {config.micro_tokens, sharing, 1})) {
      const int64_t n = data::count_tokens(rows, micro, sharing);
      computed += n;
      largest = std::max(largest, n);
      targets += data::count_targets(rows, micro);
    }
  }
  const auto weights = count_weights(c);
  const double passes = static_cast<double>(total) / static_cast<double>(per_epoch);
  const double operations = passes * product_operations(weights, computed, targets);
  const double rate = ceilings::matrix_rate_gflops(load.policy.compute, load.device);
  const double floor_s = operations / (rate * 1e9);
  const int64_t element = load.policy.compute == ops::Compute::F32 ? 4 : 2;
  // The packed form that fast bf16 CPUs use is another one for each direction; even sizes stand for all.
  const int64_t forms = ops::GemmWeights::fit(load.policy.compute, load.device, 2, 2, 2) ? 2 : 1;
  const bool is_resident = load.residency == ops::Residency::Resident;
  const int64_t resident = is_resident ? (forms * weights.blocks + weights.head) * element : 0;
  // Elsewhere SwiGLU's gradient makes its output again.
  const bool keeps_swiglu = element == 4 || load.device.is_cpu() || config.lora.dropout > 0;
  const int64_t activations = largest * activation_bytes_a_token(c, config.activations, element, keeps_swiglu);
  out << fmt::format(
             "steps     {} of {} rows, largest micro-batch {} tokens; shared instructions leave {} of {} tokens to "
             "compute\n",
             total, config.batch_size, largest, computed, lengths.num_tokens)
      << fmt::format("time      {:.1f} TFLOP at {:.0f} GFLOP/s ({}): at least {}; expect about {}\n", operations / 1e12,
                     rate, ops::name(load.policy.compute), format_duration(floor_s), format_duration(1.5 * floor_s))
      << fmt::format("memory    weights {} (+ {} of the file, mapped), activations {}\n",
                     format_bytes(static_cast<uint64_t>(resident)), format_bytes(base.file_bytes()),
                     format_bytes(static_cast<uint64_t>(activations)));
}

}  // namespace slmi::cli
