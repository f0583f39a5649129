// A base model on disk, whatever its form: a Hugging Face directory or a GGUF file, seen under Hugging Face's names.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "slmi/formats/dtype.h"
#include "slmi/formats/gguf.h"
#include "slmi/formats/gptq_checkpoint.h"
#include "slmi/formats/llama_config.h"
#include "slmi/formats/nf4_checkpoint.h"
#include "slmi/formats/safetensors.h"
#include "slmi/quant/weight_format.h"

namespace slmi::formats {

/// One tensor as it is stored. Copies share the bytes, which live as long as one of them.
struct StoredTensor {
  std::string name;  // Hugging Face's: "model.layers.0.self_attn.q_proj.weight"
  quant::WeightFormat format = quant::WeightFormat::F32;
  Shape shape;                                            // [N, K] or [N], row-major
  std::span<const std::byte> bytes;                       // GPTQ and NF4: of the codes
  std::shared_ptr<const void> owner;                      // the mapping, or owned storage
  std::shared_ptr<const quant::GptqView> gptq = nullptr;  // GPTQ: all planes, alive as long as `owner`
  std::shared_ptr<const quant::Nf4Matrix> nf4 = nullptr;  // NF4: the matrix, with bytes of its own
  /// Bytes in the file.
  uint64_t stored_bytes() const;
};

/// Values of an F32, F16 or BF16 tensor as f32, exact. @throws Error{Input} naming the tensor for block formats.
std::vector<float> to_floats(const StoredTensor& tensor);

enum class CheckpointKind { HfDirectory, Gguf };
std::string_view checkpoint_kind_name(CheckpointKind kind);  // "hf", "gguf"

/// An opened base model; immutable, thread-safe.
class Checkpoint {
 public:
  /// @param path  a directory with config.json and model.safetensors (or model.safetensors.index.json and its shards),
  ///              GPTQ's (formats/gptq_checkpoint.h) and bitsandbytes' (formats/nf4_checkpoint.h) among them, or a
  ///              .gguf file. Checks the tensors against the config: all missing, unexpected and misshapen ones are
  ///              reported in one message. @throws Error{Input}.
  static std::shared_ptr<const Checkpoint> open(const std::filesystem::path& path);

  const LlamaConfig& config() const { return config_; }
  CheckpointKind kind() const { return kind_; }
  const std::filesystem::path& path() const { return path_; }
  /// Bytes of the weight files.
  uint64_t file_bytes() const { return file_bytes_; }
  /// Hugging Face names in the order embed, layers, norm, head; a tied head is absent.
  const std::vector<std::string>& names() const { return names_; }
  bool has(std::string_view hf_name) const { return entries_.find(hf_name) != entries_.end(); }
  /// In Hugging Face's row order: the Q and K rows of a GGUF file are moved, as whole rows, into owned storage at each
  /// call. @throws Error{Input} naming path and tensor if it is absent.
  StoredTensor tensor(std::string_view hf_name) const;
  /// SHA-256 over the f32 values of all norm weights in layer order (input norm, post-attention norm; then the final
  /// norm): equal for every form of one base, different for its sisters.
  std::string fingerprint() const;
  /// SHA-256 over names, formats, shapes and all stored bytes: equal only for files that give the same weights.
  std::string content_digest() const;
  /// The GGUF file, for its vocabulary; nullptr for a directory.
  const GgufFile* gguf() const;
  /// What the matrices are stored in, by bytes, largest first: "Q4_1, Q8_0, F32".
  std::string formats_text() const;
  /// Of a GPTQ directory.
  const std::optional<GptqConfig>& gptq() const { return gptq_; }
  /// What the user should know of these files, a sentence each.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  struct Entry {
    quant::WeightFormat format;
    Shape shape;
    std::span<const std::byte> bytes;
    int64_t interleaved_heads = 0;  // > 0: GGUF Q or K, whose rows wait to be moved
    std::shared_ptr<const quant::GptqView> gptq = nullptr;
    std::shared_ptr<const Nf4Layer> nf4 = nullptr;
  };
  struct Files;
  Checkpoint() = default;
  void open_directory();
  void add_directory_tensors(TensorMap tensors);
  void add_nf4_layers(TensorMap& tensors);
  void add_gptq_layers(TensorMap& tensors);
  void open_gguf();
  void drop_tied_copy();
  void check_tensors();

  LlamaConfig config_;
  CheckpointKind kind_ = CheckpointKind::HfDirectory;
  std::filesystem::path path_;
  uint64_t file_bytes_ = 0;
  std::optional<GptqConfig> gptq_;
  bool nf4_ = false;  // bitsandbytes' 4 bits
  std::vector<std::string> notes_;
  std::vector<std::string> names_;
  std::map<std::string, Entry, std::less<>> entries_;
  std::shared_ptr<const Files> files_;
};

/// One expected tensor of a model.
struct ExpectedTensor {
  std::string name;
  Shape shape;
};
/// All tensors that a model of this config has, in the order of Checkpoint::names().
std::vector<ExpectedTensor> expected_tensors(const LlamaConfig& config);

/// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"; empty for names with no counterpart.
std::string hf_name_of_gguf(std::string_view gguf_name);
/// The inverse; empty for names with no counterpart.
std::string gguf_name_of_hf(std::string_view hf_name);

/// Moves whole rows of a Q or K matrix inside each head from GGUF's interleaved order (pair = rows 2i, 2i+1) to Hugging
/// Face's rotate-half order (pair = rows i, i + E/2): row j*E/2 + i takes row 2i + j. `row_bytes` may be of any format.
std::vector<std::byte> rows_to_rotate_half(std::span<const std::byte> bytes, int64_t num_heads, int64_t head_dim,
                                           uint64_t row_bytes);
/// The inverse, for writers of GGUF.
std::vector<std::byte> rows_to_interleaved(std::span<const std::byte> bytes, int64_t num_heads, int64_t head_dim,
                                           uint64_t row_bytes);

}  // namespace slmi::formats
