// What tools/check-consumers compares with other programs: rows as this program encodes them and what it predicts.
//   slmi_consumer_dump MODEL ROWS.jsonl COUNT TOP exact|llama.cpp [BASE]
// One JSON line a row, of the first COUNT: id, prompt (rendered text), ids, first (index of the first target), top (of
// every target position the TOP likeliest [id, log-probability]), and log_probability (sum over all tokens but the
// first). In f32. With a TOP of 0 neither top nor log_probability is there. llama.cpp: what each matrix is multiplied
// with is rounded first as llama.cpp's products on a CPU round it (ggml-cpu's vec_dot types), so that what is left
// between the two is the files' and the programs', not the arithmetic's.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "slmi/base/error.h"
#include "slmi/base/parallel.h"
#include "slmi/data/row_reader.h"
#include "slmi/model/open.h"
#include "slmi/quant/gguf_codec.h"

namespace slmi::model {
namespace {

enum class Activations { Exact, LlamaCpp };

/// Q8_K, which exists between ggml's products alone: 256 numbers, one f32 scale, codes in [-127, 127].
void round_q8_k(std::span<float> x) {
  constexpr size_t kBlock = 256;
  for (size_t begin = 0; begin < x.size(); begin += kBlock) {
    const auto block = x.subspan(begin, kBlock);
    const float largest =
        *std::max_element(block.begin(), block.end(), [](float a, float b) { return std::abs(a) < std::abs(b); });
    if (largest == 0.0f) continue;
    const float inverse = -127.0f / largest, scale = 1.0f / inverse;
    for (float& value : block) value = scale * std::min(127.0f, std::nearbyint(inverse * value));
  }
}

/// Rounds x [T, K] f32 in place as llama.cpp does before a product with a matrix of this format.
void round_for(quant::WeightFormat weights, const at::Tensor& x) {
  using quant::WeightFormat;
  auto type = WeightFormat::Q8_0;  // and Q8_1, whose codes and scales are the same
  bool k_type = false;
  switch (weights) {
    case WeightFormat::F32:
      return;
    case WeightFormat::F16:
    case WeightFormat::BF16:
      type = weights;
      break;
    case WeightFormat::Q2_K:
    case WeightFormat::Q3_K:
    case WeightFormat::Q4_K:
    case WeightFormat::Q5_K:
    case WeightFormat::Q6_K:
      k_type = true;
      break;
    default:
      break;
  }
  at::Tensor values = x.contiguous();
  const std::span<float> span(values.data_ptr<float>(), static_cast<size_t>(values.numel()));
  if (k_type) {
    round_q8_k(span);
  } else {
    const auto bytes = quant::quantize(type, span, x.size(0), x.size(1));
    const auto rounded = quant::dequantize(type, bytes, x.size(0), x.size(1));
    std::copy(rounded.begin(), rounded.end(), span.begin());
  }
  x.copy_(values);
}

const ops::LinearGroup& group_at(const Llama& llama, const ops::LinearSite& first) {
  const auto& block = llama.blocks()[static_cast<size_t>(first.layer)];
  for (const auto* group : {&block.qkv, &block.output, &block.gate_up, &block.down})
    if (group->sites().front().module == first.module) return *group;
  fail(ErrorKind::Internal, "no group begins with {}", first.module);
}

at::Tensor log_probabilities(Llama& llama, const std::vector<int32_t>& ids, Activations activations) {
  const auto n = static_cast<int64_t>(ids.size());
  llama.reserve_positions(n);
  ForwardContext context;
  context.positions = at::arange(n, at::kInt);
  context.plan = ops::AttentionPlan({{0, n, 0, 0, 0, n}}, at::kCPU);
  if (activations == Activations::LlamaCpp)
    context.observer = [&](const ops::LinearSite& site, const at::Tensor& x) {
      round_for(group_at(llama, site).matrices().front().format(), x);
    };
  const at::Tensor normed = llama.head_input(llama.forward(at::tensor(ids, at::kInt), context));
  if (activations == Activations::LlamaCpp) round_for(llama.output_matrix().format(), normed);
  return at::log_softmax(llama.head_logits(normed).to(at::kDouble), 1);
}

Json describe(Llama& llama, const text::PromptBuilder& prompts, const data::Row& row, int64_t top,
              Activations activations) {
  const text::Encoded encoded = prompts.build(row.messages, row.answer);
  const auto n = static_cast<int64_t>(encoded.ids.size());
  Json out = {
      {"id", row.id}, {"prompt", prompts.render(row.messages)}, {"ids", encoded.ids}, {"first", encoded.target_begin}};
  if (top == 0) return out;
  const at::Tensor lp = log_probabilities(llama, encoded.ids, activations);
  double sum = 0.0;
  Json positions = Json::array();
  for (int64_t i = 1; i < n; ++i) {
    const at::Tensor before = lp[i - 1];
    sum += before[encoded.ids[static_cast<size_t>(i)]].item<double>();
    if (i < encoded.target_begin) continue;
    const auto [values, ids] = before.topk(top);
    Json likeliest = Json::array();
    for (int64_t k = 0; k < top; ++k) likeliest.push_back({ids[k].item<int64_t>(), values[k].item<double>()});
    positions.push_back(likeliest);
  }
  out["top"] = positions;
  out["log_probability"] = sum;
  return out;
}

void dump(const std::string& path, const std::string& rows, int64_t count, int64_t top, Activations activations,
          const std::string& base) {
  OpenOptions options;
  options.base = base;
  const OpenedModel opened = open_model(path, options);
  const auto& prompts = *opened.files.prompts;
  data::ReadOptions read;
  read.system_text = prompts.system_text();
  const data::RowSet set = data::read_rows(std::filesystem::path(rows), read);
  for (const auto& row : set.rows) {
    if (count-- <= 0) break;
    std::printf("%s\n", describe(*opened.llama, prompts, row, top, activations).dump().c_str());
  }
}

}  // namespace
}  // namespace slmi::model

int main(int argc, char** argv) {
  const std::string activations = argc > 5 ? argv[5] : "";
  if (argc < 6 || argc > 7 || (activations != "exact" && activations != "llama.cpp")) {
    std::fputs("usage: slmi_consumer_dump MODEL ROWS.jsonl COUNT TOP exact|llama.cpp [BASE]\n", stderr);
    return 2;
  }
  try {
    at::set_num_threads(slmi::available_processors());
    using slmi::model::Activations;
    slmi::model::dump(argv[1], argv[2], std::atoll(argv[3]), std::atoll(argv[4]),
                      activations == "exact" ? Activations::Exact : Activations::LlamaCpp, argc > 6 ? argv[6] : "");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "slmi_consumer_dump: %s\n", e.what());
    return 1;
  }
  return 0;
}
