// Writing GGUF adapters; see the header.
#include "slmi/formats/gguf_adapter.h"

#include "slmi/base/error.h"
#include "slmi/formats/checkpoint.h"

namespace slmi::formats {
namespace {

/// Heads of a module whose output rows GGUF orders otherwise; 0: none.
int64_t rotary_heads(LlamaModule module, const LlamaConfig& config) {
  if (module == LlamaModule::QProj) return config.num_heads;
  return module == LlamaModule::KProj ? config.num_kv_heads : 0;
}

void check_fit(const std::string& name, const AdapterPair& pair, const std::map<std::string, Shape>& shapes,
               const PeftAdapter& adapter) {
  const auto at = shapes.find(name);
  require(at != shapes.end(), ErrorKind::Input, "{}: adapts '{}', which the base has not", adapter.path().string(),
          name);
  const Shape fits = {pair.b.rows, pair.a.columns};
  require(at->second == fits, ErrorKind::Input, "{}: adapts '{}' as {}; the base's is {}", adapter.path().string(),
          name, shape_text(fits), shape_text(at->second));
}

}  // namespace

void write_gguf_adapter(const std::filesystem::path& path, const PeftAdapter& adapter, const LlamaConfig& config,
                        const std::string& name, const Provenance& provenance) {
  const PeftConfig& peft = adapter.config();
  GgufWriter writer;
  writer.add_string("general.architecture", "llama");
  writer.add_string("general.type", "adapter");
  writer.add_string("general.name", name);
  writer.add_u32("general.file_type", 0);  // all F32
  writer.add_string("adapter.type", "lora");
  writer.add_f32("adapter.lora.alpha", static_cast<float>(peft.scale() * static_cast<double>(peft.r)));
  writer.add_string(kProvenanceGgufKey, provenance.to_json().dump());

  std::map<std::string, Shape> shapes;
  for (const auto& tensor : expected_tensors(config)) shapes[tensor.name] = tensor.shape;
  for (const auto& [place, pair] : adapter.pairs()) {
    const auto& [layer, module] = place;
    const std::string hf = fmt::format("model.layers.{}.{}.weight", layer, llama_module_path(module));
    check_fit(hf, pair, shapes, adapter);
    const auto add = [&](const char* side, const AdapterMatrix& matrix, int64_t heads) {
      writer.add_tensor(gguf_name_of_hf(hf) + side, quant::WeightFormat::F32, {matrix.rows, matrix.columns},
                        [&matrix, heads, &config](const GgufWriter::Sink& sink) {
                          const auto values = matrix.floats();
                          const auto bytes = std::as_bytes(std::span(values));
                          if (heads == 0) return sink(bytes);
                          const auto row_bytes = static_cast<uint64_t>(matrix.columns) * sizeof(float);
                          sink(rows_to_interleaved(bytes, heads, config.head_dim, row_bytes));
                        });
    };
    add(".lora_a", pair.a, 0);
    add(".lora_b", pair.b, rotary_heads(module, config));
  }
  writer.write(path);
}

}  // namespace slmi::formats
