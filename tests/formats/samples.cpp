// Writes a tiny model in every form and an adapter, for check_written.py to read with other programs.
#include <cstdio>

#include "slmi/formats/peft_adapter.h"
#include "tiny_model.h"

namespace slmi::formats {
namespace {

void write_samples(const std::filesystem::path& folder) {
  auto config = tiny_config();
  config.rope_scaling = {RopeScalingKind::Llama3, 32.0, 1.0, 4.0, 8192, {}};
  const TinyModel model(config);
  model.write_directory(folder / "single");
  model.write_directory(folder / "sharded", 6000);
  model.write_gguf(folder / "model.gguf");

  PeftConfig peft;
  peft.r = 2;
  peft.alpha = 8;
  peft.target_modules = {"q_proj", "down_proj"};
  peft.base_model_name_or_path = "single";
  std::vector<float> values(96);
  for (size_t i = 0; i < values.size(); ++i) values[i] = 0.01f * static_cast<float>(i) - 0.3f;
  std::vector<OutputTensor> tensors;
  const auto add = [&](int64_t layer, LlamaModule module, int64_t in, int64_t out) {
    const auto bytes = [&](int64_t n) { return std::as_bytes(std::span(values).first(static_cast<size_t>(n))); };
    tensors.push_back({peft_tensor_name(layer, module, LoraSide::A), Dtype::F32, {2, in}, bytes(2 * in)});
    tensors.push_back({peft_tensor_name(layer, module, LoraSide::B), Dtype::F32, {out, 2}, bytes(2 * out)});
  };
  for (int64_t layer = 0; layer < 2; ++layer) {
    add(layer, LlamaModule::QProj, 32, 32);
    add(layer, LlamaModule::DownProj, 48, 32);
  }
  write_peft_adapter(folder / "adapter", peft, tensors);
}

}  // namespace
}  // namespace slmi::formats

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: formats_samples FOLDER\n");
    return 2;
  }
  try {
    slmi::formats::write_samples(argv[1]);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  return 0;
}
