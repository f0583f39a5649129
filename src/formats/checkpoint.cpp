// Opening a base model: Hugging Face directory or GGUF file; see the header.
#include "slmi/formats/checkpoint.h"

#include <algorithm>
#include <functional>
#include <set>

#include "config_fields.h"
#include "llama_limits.h"
#include "slmi/base/parallel.h"
#include "slmi/base/sha256.h"

namespace slmi::formats {
namespace {

namespace fs = std::filesystem;
using quant::WeightFormat;

std::optional<WeightFormat> weight_format_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::F32:
      return WeightFormat::F32;
    case Dtype::F16:
      return WeightFormat::F16;
    case Dtype::BF16:
      return WeightFormat::BF16;
    default:
      return std::nullopt;
  }
}

/// Buffers that old checkpoints carry and that follow from the config.
bool is_derived(std::string_view name) {
  return name.ends_with(".rotary_emb.inv_freq");
}

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

/// weight_map of an index: tensor -> shard file, every name checked to be a plain file name.
std::map<std::string, std::string> read_index(const fs::path& path) {
  const Json json = read_json_file(path.string());
  const auto at = json.is_object() ? json.find("weight_map") : json.end();
  require(at != json.end() && at->is_object() && !at->empty(), ErrorKind::Input,
          "{}: no weight_map of tensor names to files", path.string());
  std::map<std::string, std::string> out;
  for (const auto& item : at->items()) {
    require(item.value().is_string(), ErrorKind::Input, "{}: weight_map: '{}' is {}; expected a file name",
            path.string(), item.key(), item.value().type_name());
    const auto& file = item.value().get_ref<const std::string&>();
    const bool plain = fs::path(file).filename() == file && file.ends_with(".safetensors");
    require(plain, ErrorKind::Input,
            "{}: weight_map: '{}' lies in '{}'; expected a .safetensors file of this directory", path.string(),
            item.key(), file);
    out[item.key()] = file;
  }
  return out;
}

[[noreturn]] void fail_without_weights(const fs::path& directory) {
  const bool pickled = fs::exists(directory / "pytorch_model.bin") ||
                       fs::exists(directory / "pytorch_model.bin.index.json") ||
                       fs::exists(directory / "consolidated.00.pth");
  fail(ErrorKind::Input, "{}: neither {} nor {}{}", directory.string(), kSingle, kIndex,
       pickled ? "; pickled weights are never read: save the model as safetensors" : "");
}

/// The shards of a directory, opened, and checked against the index if there is one.
std::vector<SafetensorsFile> open_shards(const fs::path& directory) {
  if (fs::exists(directory / kSingle)) return {SafetensorsFile::open(directory / kSingle)};
  if (!fs::exists(directory / kIndex)) fail_without_weights(directory);
  const auto index = read_index(directory / kIndex);
  std::set<std::string> files;
  for (const auto& [tensor, file] : index) files.insert(file);
  std::vector<SafetensorsFile> out;
  Problems problems((directory / kIndex).string());
  for (const auto& file : files) {
    const auto& shard = out.emplace_back(SafetensorsFile::open(directory / file));
    for (const auto& [name, tensor] : shard.tensors()) {
      const auto at = index.find(name);
      if (at == index.end() || at->second != file)
        problems.add("'{}' lies in {}, which the index does not say", name, file);
    }
    for (const auto& [name, place] : index) {
      if (place == file && !shard.has(name)) problems.add("'{}' is missing in {}", name, file);
    }
  }
  problems.throw_if_any();
  return out;
}

void add_matrix(Sha256& hash, const quant::Nf4Matrix& matrix) {
  for (const auto plane : {std::as_bytes(std::span(matrix.codes)), std::as_bytes(std::span(matrix.absmax)),
                           std::as_bytes(std::span(matrix.absmax_codes)), std::as_bytes(std::span(matrix.absmax2)),
                           std::as_bytes(std::span(&matrix.offset, 1))}) {
    hash.update_u64(plane.size());
    hash.update(plane);
  }
}

}  // namespace

struct Checkpoint::Files {
  std::vector<SafetensorsFile> shards;
  std::optional<GgufFile> gguf;
};

std::string_view checkpoint_kind_name(CheckpointKind kind) {
  return kind == CheckpointKind::Gguf ? "gguf" : "hf";
}

const GgufFile* Checkpoint::gguf() const {
  return files_->gguf ? &*files_->gguf : nullptr;
}

uint64_t StoredTensor::stored_bytes() const {
  if (gptq) return gptq->bytes();
  if (!nf4) return bytes.size();
  // The mean of the scales is in the file's JSON, not in a plane.
  return static_cast<uint64_t>(nf4->bytes()) - (nf4->doubly_quantized() ? sizeof(float) : 0);
}

std::vector<float> to_floats(const StoredTensor& tensor) {
  switch (tensor.format) {
    case WeightFormat::F32:
      return floats_from(Dtype::F32, tensor.bytes, tensor.name);
    case WeightFormat::F16:
      return floats_from(Dtype::F16, tensor.bytes, tensor.name);
    case WeightFormat::BF16:
      return floats_from(Dtype::BF16, tensor.bytes, tensor.name);
    default:
      fail(ErrorKind::Input, "tensor '{}' is stored as {}; expected F32, F16 or BF16", tensor.name,
           quant::name(tensor.format));
  }
}

std::vector<ExpectedTensor> expected_tensors(const LlamaConfig& c) {
  const int64_t d = c.hidden_size, f = c.intermediate_size;
  const int64_t q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim;
  std::vector<ExpectedTensor> out = {{"model.embed_tokens.weight", {c.vocab_size, d}}};
  for (int64_t i = 0; i < c.num_layers; ++i) {
    const auto name = [&](const char* module) { return fmt::format("model.layers.{}.{}.weight", i, module); };
    out.push_back({name("input_layernorm"), {d}});
    out.push_back({name("self_attn.q_proj"), {q, d}});
    out.push_back({name("self_attn.k_proj"), {kv, d}});
    out.push_back({name("self_attn.v_proj"), {kv, d}});
    out.push_back({name("self_attn.o_proj"), {d, q}});
    out.push_back({name("post_attention_layernorm"), {d}});
    out.push_back({name("mlp.gate_proj"), {f, d}});
    out.push_back({name("mlp.up_proj"), {f, d}});
    out.push_back({name("mlp.down_proj"), {d, f}});
  }
  out.push_back({"model.norm.weight", {d}});
  if (!c.tie_word_embeddings) out.push_back({"lm_head.weight", {c.vocab_size, d}});
  return out;
}

std::shared_ptr<const Checkpoint> Checkpoint::open(const fs::path& path) {
  require(fs::exists(path), ErrorKind::Input, "{}: no such file or directory", path.string());
  require(path.extension() != ".safetensors" || fs::is_directory(path), ErrorKind::Input,
          "{}: one file of a model; give the directory that holds it and config.json", path.string());
  auto out = std::shared_ptr<Checkpoint>(new Checkpoint);
  out->path_ = path;
  if (fs::is_directory(path)) {
    out->open_directory();
  } else {
    out->open_gguf();
  }
  out->check_tensors();
  return out;
}

void Checkpoint::open_directory() {
  kind_ = CheckpointKind::HfDirectory;
  const auto config_path = path_ / "config.json";
  require(fs::exists(config_path), ErrorKind::Input,
          "{}: no config.json; expected a Hugging Face model directory or a .gguf file", path_.string());
  const Json config_json = read_json_file(config_path.string());
  config_ = LlamaConfig::from_hf_json(config_json, config_path.string());
  nf4_ = is_nf4_config(config_json, config_path.string());
  if (!nf4_) gptq_ = read_gptq_config(config_json, path_);
  const auto generation_path = path_ / "generation_config.json";
  if (fs::exists(generation_path)) {
    config_.add_generation_config(read_json_file(generation_path.string()), generation_path.string());
  }
  auto files = std::make_shared<Files>();
  files->shards = open_shards(path_);
  files_ = files;
  TensorMap tensors;
  for (const auto& shard : files->shards) {
    file_bytes_ += shard.file_bytes();
    for (const auto& [name, tensor] : shard.tensors())
      if (!is_derived(name)) tensors[name] = tensor;
  }
  add_directory_tensors(std::move(tensors));
  drop_tied_copy();
}

void Checkpoint::add_gptq_layers(TensorMap& tensors) {
  const GptqLayers gptq = take_gptq_layers(tensors, gptq_, path_.string());
  notes_.insert(notes_.end(), gptq.notes.begin(), gptq.notes.end());
  for (const auto& [name, view] : gptq.layers)
    entries_[name] = Entry{WeightFormat::GPTQ, {view->n, view->k}, view->qweight, 0, view, nullptr};
}

void Checkpoint::add_nf4_layers(TensorMap& tensors) {
  for (auto& [name, layer] : take_nf4_layers(tensors, path_.string())) {
    const auto shared = std::make_shared<const Nf4Layer>(layer);
    entries_[name] = Entry{WeightFormat::NF4, {shared->n, shared->k}, shared->codes, 0, nullptr, shared};
  }
}

void Checkpoint::add_directory_tensors(TensorMap tensors) {
  if (nf4_)
    add_nf4_layers(tensors);
  else
    add_gptq_layers(tensors);
  Problems problems(path_.string());
  for (const auto& [name, tensor] : tensors) {
    const auto format = weight_format_of(tensor.dtype);
    if (!format) {
      problems.add("tensor '{}' is {}; read are F32, F16 and BF16", name, dtype_name(tensor.dtype));
    } else if (entries_.contains(name)) {
      problems.add("tensor '{}' is there both quantized and as numbers", name);
    } else {
      entries_[name] = Entry{*format, tensor.shape, tensor.bytes, 0, nullptr, nullptr};
    }
  }
  problems.throw_if_any();
}

/// Some writers store the tied head as well: equal bytes are one matrix, others contradict the config.
void Checkpoint::drop_tied_copy() {
  const auto head = entries_.find("lm_head.weight"), embed = entries_.find("model.embed_tokens.weight");
  if (!config_.tie_word_embeddings || head == entries_.end() || embed == entries_.end()) return;
  const bool equal =
      head->second.format == embed->second.format && std::ranges::equal(head->second.bytes, embed->second.bytes);
  require(equal, ErrorKind::Input,
          "{}: config.json says tie_word_embeddings, but lm_head.weight differs from model.embed_tokens.weight; set "
          "tie_word_embeddings to false to use the head that is stored",
          path_.string());
  entries_.erase(head);
}

void Checkpoint::open_gguf() {
  kind_ = CheckpointKind::Gguf;
  auto files = std::make_shared<Files>();
  files->gguf = GgufFile::open(path_);
  files_ = files;
  file_bytes_ = files->gguf->file_bytes();
  config_ = LlamaConfig::from_gguf(*files->gguf);
  for (const auto& [name, tensor] : files->gguf->tensors()) {
    if (name == "rope_freqs.weight") continue;  // read by the config
    const auto hf = hf_name_of_gguf(name);
    const int64_t heads = hf.ends_with(".q_proj.weight")   ? config_.num_heads
                          : hf.ends_with(".k_proj.weight") ? config_.num_kv_heads
                                                           : 0;
    entries_[hf.empty() ? name + " (no counterpart)" : hf] =
        Entry{tensor.format, tensor.shape, tensor.bytes, heads, nullptr, nullptr};
  }
}

void Checkpoint::check_tensors() {
  Problems problems(path_.string());
  std::set<std::string_view> expected;
  const auto list = expected_tensors(config_);
  for (const auto& [name, shape] : list) {
    expected.insert(name);
    const auto at = entries_.find(name);
    if (at == entries_.end()) {
      problems.add("tensor '{}' {} is missing", name, shape_text(shape));
    } else if (at->second.shape != shape) {
      problems.add("tensor '{}' is {}; the config asks for {}", name, shape_text(at->second.shape), shape_text(shape));
    } else if (shape.size() == 1 && quant::is_quantized(at->second.format)) {
      problems.add("tensor '{}' is {}; norms are read as F32, F16 or BF16", name, quant::name(at->second.format));
    }
    names_.push_back(name);
  }
  for (const auto& [name, entry] : entries_) {
    if (!expected.contains(name)) problems.add("tensor '{}' {} is unexpected", name, shape_text(entry.shape));
  }
  problems.throw_if_any();
}

StoredTensor Checkpoint::tensor(std::string_view hf_name) const {
  const auto at = entries_.find(hf_name);
  require(at != entries_.end(), ErrorKind::Input, "{}: no tensor '{}'", path_.string(), hf_name);
  const Entry& entry = at->second;
  StoredTensor out{at->first, entry.format, entry.shape, entry.bytes, files_, entry.gptq, nullptr};
  if (entry.nf4) out.nf4 = std::make_shared<const quant::Nf4Matrix>(entry.nf4->matrix());
  if (entry.interleaved_heads > 0) {
    const auto row_bytes = static_cast<uint64_t>(quant::row_bytes(entry.format, entry.shape[1]));
    auto moved = std::make_shared<std::vector<std::byte>>(
        rows_to_rotate_half(entry.bytes, entry.interleaved_heads, config_.head_dim, row_bytes));
    out.bytes = *moved;
    out.owner = moved;
  }
  return out;
}

std::string Checkpoint::fingerprint() const {
  Sha256 hash;
  for (const auto& name : names_) {
    if (!name.ends_with("norm.weight")) continue;
    const auto values = to_floats(tensor(name));
    hash.update(std::as_bytes(std::span(values)));
  }
  return hash.hex();
}

std::string Checkpoint::content_digest() const {
  constexpr size_t kPiece = size_t{1} << 20;  // planes are hashed in pieces side by side, and then the pieces' hashes
  Sha256 hash;
  std::vector<std::function<void(Sha256&)>> pieces;
  const auto add = [&](std::span<const std::byte> plane) {
    hash.update_u64(plane.size());
    for (size_t at = 0; at < plane.size(); at += kPiece)
      pieces.emplace_back(
          [part = plane.subspan(at, std::min(kPiece, plane.size() - at))](Sha256& h) { h.update(part); });
  };
  for (const auto& [name, entry] : entries_) {
    add(std::as_bytes(std::span(name)));
    add(std::as_bytes(std::span(quant::name(entry.format))));
    add(std::as_bytes(std::span(entry.shape)));
    if (entry.gptq)
      for (const auto plane : {entry.gptq->qweight, entry.gptq->qzeros, entry.gptq->scales, entry.gptq->g_idx})
        add(plane);
    else if (entry.nf4)
      pieces.emplace_back([nf4 = &*entry.nf4](Sha256& h) { add_matrix(h, nf4->matrix()); });
    else
      add(entry.bytes);
  }
  std::vector<std::string> hashes(pieces.size());
  parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t begin, int64_t end, int) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      Sha256 piece;
      pieces[i](piece);
      hashes[i] = piece.hex();
    }
  });
  for (const auto& piece : hashes) hash.update(piece);
  return hash.hex();
}

std::string Checkpoint::formats_text() const {
  std::map<std::string_view, uint64_t> bytes;
  for (const auto& [name, entry] : entries_)
    bytes[quant::name(entry.format)] += entry.gptq  ? entry.gptq->bytes()
                                        : entry.nf4 ? entry.nf4->bytes()
                                                    : entry.bytes.size();
  std::vector<std::pair<std::string_view, uint64_t>> sorted(bytes.begin(), bytes.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  std::vector<std::string_view> names;
  for (const auto& [name, size] : sorted) names.push_back(name);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace slmi::formats
