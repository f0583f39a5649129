// From a path to a model ready to run: base, adapter, tokenizer, template, and whether they belong together.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "slmi/data/answer_form.h"
#include "slmi/formats/checkpoint.h"
#include "slmi/formats/provenance.h"
#include "slmi/model/llama.h"
#include "slmi/text/prompt_builder.h"

namespace slmi::model {

enum class PathKind { HfDirectory, Gguf, Adapter, Run };
std::string_view path_kind_name(PathKind kind);  // "hf", "gguf", "adapter", "run"

/// What a path holds. @throws Error{Input} saying what was looked for if it is none of the four.
PathKind classify(const std::filesystem::path& path);

struct OpenOptions {
  std::string base;             // overrides the base that an adapter names
  std::string prompt_template;  // "": the artefact's own, else the one that the vocabulary calls for
  std::string system;           // text or a file; "": the artefact's own
  std::string tokenizer;        // a file or directory; "": the base's
  LoadOptions load;
};

/// Provenance::trained_on of an adapter whose training saw its base through NF4.
inline constexpr const char* kTrainedOnNf4 = "nf4";

/// A path resolved to its parts, weights not yet loaded.
struct ModelFiles {
  std::filesystem::path path, base_path, adapter_path;  // adapter_path empty: none
  PathKind kind = PathKind::HfDirectory;
  std::shared_ptr<const formats::Checkpoint> checkpoint;
  std::shared_ptr<const text::PromptBuilder> prompts;
  std::optional<formats::Provenance> provenance;        // of the artefact at `path`, if it carries one
  std::shared_ptr<const data::AnswerForm> answer_form;  // of the rows it was trained on; null: none is known
  formats::BaseIdentity base;
  std::string note;  // what the user should know, e.g. that a lineage is unknown

  /// True if there is an adapter that was trained on its base in NF4: it makes up for what NF4 changed, so that on the
  /// base as stored it is off.
  bool trained_on_nf4() const { return !adapter_path.empty() && provenance && provenance->trained_on == kTrainedOnNf4; }
};

/// Opens files, vocabulary and template. @throws Error{Input} if an adapter was made on another base, or if the
/// tokenizer differs from the one that the artefact was made with.
ModelFiles open_files(const std::filesystem::path& path, const OpenOptions& options);

/// The base's identity as it can be derived from its files.
formats::BaseIdentity identity_of(const formats::Checkpoint& checkpoint, const text::Tokenizer& tokenizer);

struct OpenedModel {
  ModelFiles files;
  std::shared_ptr<Llama> llama;
  std::shared_ptr<Lora> lora;  // null: none
};
/// open_files, then the weights, the adapter attached. With BaseFormat::Auto the base has the values that the adapter
/// was trained on.
OpenedModel open_model(const std::filesystem::path& path, const OpenOptions& options);

/// `text_or_file`: the file's content (one final line end removed) if it names one, else the text itself.
std::string text_or_file(const std::string& text_or_file);

/// Generation settings of a model: its template's stop ids and the end ids that its configuration names.
std::vector<int64_t> stop_ids(const ModelFiles& files);

/// Rows that a run was trained or validated on, as its config.json says; no files if it does not.
struct TrainingRows {
  std::vector<std::filesystem::path> files;
  std::string text_field = "text", answer_field = "answer";
};
TrainingRows training_rows(const std::filesystem::path& run);
TrainingRows validation_rows(const std::filesystem::path& run);

/// slmi.json of something made from these files: this program, their tokenizer, template, stop ids, base and origin of
/// the weights. The writer adds what it did to them.
formats::Provenance provenance_of(const ModelFiles& files, const std::string& command);

}  // namespace slmi::model
