// For tools/check-gptq and tools/check-nf4: what slmi reads out of a model directory, as raw f32.
//
//   logits_dump MODEL IDS.json OUT.f32          IDS.json: [[1, 2, 3], ...]; OUT: rows one after another, [T, V] each
//   logits_dump MODEL NAME.weight ... OUT.f32   OUT: those matrices, [N, K] each
#include <ATen/ATen.h>
#include <fstream>
#include <iostream>
#include <span>

#include "slmi/base/error.h"
#include "slmi/base/json.h"
#include "slmi/data/encoded_dataset.h"
#include "slmi/data/packing.h"
#include "slmi/model/batch.h"
#include "slmi/model/llama.h"

namespace {

using namespace slmi;

void write(const at::Tensor& values, std::ofstream& out) {
  const at::Tensor v = values.to(at::kFloat).contiguous();
  out.write(static_cast<const char*>(v.const_data_ptr()), static_cast<std::streamsize>(v.nbytes()));
}

void dump_weight(const formats::Checkpoint& checkpoint, const std::string& name, std::ofstream& out) {
  const auto matrix = ops::PackedMatrix::from_stored(checkpoint.tensor(name));
  const at::Tensor values = at::empty({matrix.n(), matrix.k()}, at::kFloat);
  matrix.dequantize_into(values);
  write(values, out);
}

void dump_logits(const formats::Checkpoint& checkpoint, const std::string& ids_path, std::ofstream& out) {
  const auto llama = model::Llama::load(checkpoint, {});
  std::vector<data::EncodedDataset::Encoded> rows;
  for (const Json& ids : read_json_file(ids_path)) {
    data::EncodedDataset::Encoded row;
    row.ids = ids.get<std::vector<int32_t>>();
    row.target_begin = static_cast<int64_t>(row.ids.size());
    rows.push_back(std::move(row));
  }
  const auto encoded = data::EncodedDataset::from_ids(std::move(rows), {});
  for (int64_t i = 0; i < encoded.size(); ++i) {
    const auto batch =
        model::to_device(data::pack(encoded, std::span(&i, 1), data::SharedPrefix::Off), llama->device());
    llama->reserve_positions(batch.num_positions);
    model::ForwardContext context;
    context.positions = batch.positions;
    context.plan = batch.plan;
    write(llama->head(llama->forward(batch.tokens, context)), out);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv, argv + argc);
  if (argc < 4 || (argc > 4 && !arguments[2].ends_with(".weight"))) {
    std::cerr << "usage: logits_dump MODEL IDS.json|NAME.weight... OUT.f32\n";
    return 2;
  }
  try {
    const auto checkpoint = formats::Checkpoint::open(arguments[1]);
    std::ofstream out(arguments.back(), std::ios::binary);
    if (arguments[2].ends_with(".weight"))
      for (const auto& name : std::span(arguments).subspan(2, arguments.size() - 3))
        dump_weight(*checkpoint, name, out);
    else
      dump_logits(*checkpoint, arguments[2], out);
  } catch (const slmi::Error& e) {
    std::cerr << "logits_dump: " << e.what() << "\n";
    return slmi::exit_code(e.kind());
  }
  return 0;
}
