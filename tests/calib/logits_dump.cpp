// For tools/check-gptq: logits of a model at every position of rows of ids, as raw f32.
//
//   logits_dump MODEL IDS.json OUT.f32        IDS.json: [[1, 2, 3], ...]; OUT: rows one after another, [T, V] each
#include <fstream>
#include <iostream>

#include "slmi/base/error.h"
#include "slmi/base/json.h"
#include "slmi/data/encoded_dataset.h"
#include "slmi/data/packing.h"
#include "slmi/model/batch.h"
#include "slmi/model/llama.h"

namespace {

using namespace slmi;

void dump(const std::string& model_path, const std::string& ids_path, const std::string& out_path) {
  const auto llama = model::Llama::load(*formats::Checkpoint::open(model_path), {});
  std::vector<data::EncodedDataset::Encoded> rows;
  for (const Json& ids : read_json_file(ids_path)) {
    data::EncodedDataset::Encoded row;
    row.ids = ids.get<std::vector<int32_t>>();
    row.target_begin = static_cast<int64_t>(row.ids.size());
    rows.push_back(std::move(row));
  }
  const auto encoded = data::EncodedDataset::from_ids(std::move(rows), {});
  std::ofstream out(out_path, std::ios::binary);
  for (int64_t i = 0; i < encoded.size(); ++i) {
    const auto batch =
        model::to_device(data::pack(encoded, std::span(&i, 1), data::SharedPrefix::Off), llama->device());
    llama->reserve_positions(batch.num_positions);
    model::ForwardContext context;
    context.positions = batch.positions;
    context.plan = batch.plan;
    const at::Tensor logits = llama->head(llama->forward(batch.tokens, context)).to(at::kFloat).contiguous();
    out.write(static_cast<const char*>(logits.const_data_ptr()), static_cast<std::streamsize>(logits.nbytes()));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: logits_dump MODEL IDS.json OUT.f32\n";
    return 2;
  }
  try {
    dump(argv[1], argv[2], argv[3]);
  } catch (const slmi::Error& e) {
    std::cerr << "logits_dump: " << e.what() << "\n";
    return slmi::exit_code(e.kind());
  }
  return 0;
}
