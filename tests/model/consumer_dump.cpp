// What tools/check-consumers compares with other programs: rows as this program encodes them and what it predicts.
//   slmi_consumer_dump MODEL ROWS.jsonl COUNT TOP [BASE]
// One JSON line a row, of the first COUNT: id, prompt (rendered text), ids, first (index of the first target), top (of
// every target position the TOP likeliest [id, log-probability]), and log_probability (sum over all tokens but the
// first). In f32. With a TOP of 0 neither top nor log_probability is there.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cstdio>
#include <cstdlib>

#include "slmi/base/parallel.h"
#include "slmi/data/row_reader.h"
#include "slmi/model/open.h"

namespace slmi::model {
namespace {

at::Tensor log_probabilities(Llama& llama, const std::vector<int32_t>& ids) {
  const auto n = static_cast<int64_t>(ids.size());
  llama.reserve_positions(n);
  ForwardContext context;
  context.positions = at::arange(n, at::kInt);
  context.plan = ops::AttentionPlan({{0, n, 0, 0, 0, n}}, at::kCPU);
  const at::Tensor hidden = llama.forward(at::tensor(ids, at::kInt), context);
  return at::log_softmax(llama.head_logits(llama.head_input(hidden)).to(at::kDouble), 1);
}

Json describe(Llama& llama, const text::PromptBuilder& prompts, const data::Row& row, int64_t top) {
  const text::Encoded encoded = prompts.build(row.messages, row.answer);
  const auto n = static_cast<int64_t>(encoded.ids.size());
  Json out = {
      {"id", row.id}, {"prompt", prompts.render(row.messages)}, {"ids", encoded.ids}, {"first", encoded.target_begin}};
  if (top == 0) return out;
  const at::Tensor lp = log_probabilities(llama, encoded.ids);
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

void dump(const std::string& path, const std::string& rows, int64_t count, int64_t top, const std::string& base) {
  OpenOptions options;
  options.base = base;
  const OpenedModel opened = open_model(path, options);
  const auto& prompts = *opened.files.prompts;
  data::ReadOptions read;
  read.system_text = prompts.system_text();
  const data::RowSet set = data::read_rows(std::filesystem::path(rows), read);
  for (const auto& row : set.rows) {
    if (count-- <= 0) break;
    std::printf("%s\n", describe(*opened.llama, prompts, row, top).dump().c_str());
  }
}

}  // namespace
}  // namespace slmi::model

int main(int argc, char** argv) {
  if (argc < 5 || argc > 6) {
    std::fputs("usage: slmi_consumer_dump MODEL ROWS.jsonl COUNT TOP [BASE]\n", stderr);
    return 2;
  }
  try {
    at::set_num_threads(slmi::available_processors());
    slmi::model::dump(argv[1], argv[2], std::atoll(argv[3]), std::atoll(argv[4]), argc > 5 ? argv[5] : "");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "slmi_consumer_dump: %s\n", e.what());
    return 1;
  }
  return 0;
}
