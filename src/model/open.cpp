// Opening models; see the header.
#include "slmi/model/open.h"

#include <algorithm>

#include "slmi/base/error.h"
#include "slmi/base/mapped_file.h"
#include "slmi/base/version.h"
#include "slmi/formats/peft_adapter.h"
#include "slmi/model/model_directory.h"

namespace slmi::model {
namespace {

namespace fs = std::filesystem;

/// Where an adapter's base lies: an explicit path, else what the adapter names, as it stands or relative to the
/// adapter.
fs::path base_of_adapter(const fs::path& adapter, const std::string& override_path) {
  if (!override_path.empty()) return override_path;
  const fs::path config_file = adapter / "adapter_config.json";
  const std::string named =
      formats::parse_peft_config(read_json_file(config_file.string()), config_file.string()).base_model_name_or_path;
  for (const fs::path& candidate : {fs::path(named), adapter / named})
    if (!named.empty() && fs::exists(candidate)) return candidate;
  fail(ErrorKind::Input, "{}: its base '{}' is not here; name it with --base DIR|GGUF", config_file.string(), named);
}

/// Where a path's provenance stands, for messages.
std::string provenance_source(const ModelFiles& files) {
  if (files.kind == PathKind::Gguf) return fmt::format("{}: {}", files.path.string(), formats::kProvenanceGgufKey);
  return ((files.adapter_path.empty() ? files.path : files.adapter_path) / formats::kProvenanceFile).string();
}

std::shared_ptr<const text::PromptBuilder> make_prompts(const ModelFiles& files, const OpenOptions& options) {
  const fs::path vocabulary = options.tokenizer.empty() ? files.base_path : fs::path(options.tokenizer);
  const bool own_gguf = options.tokenizer.empty() && files.checkpoint->gguf() != nullptr;
  const auto tokenizer =
      own_gguf ? text::Tokenizer::from_gguf(*files.checkpoint->gguf()) : text::Tokenizer::load(vocabulary);
  require(tokenizer->vocab_size() <= files.checkpoint->config().vocab_size, ErrorKind::Input,
          "{}: its vocabulary has {} tokens, the model {} has {}; the tokenizer of another model?", tokenizer->source(),
          tokenizer->vocab_size(), files.base_path.string(), files.checkpoint->config().vocab_size);
  const auto& made = files.provenance;
  if (made && !made->tokenizer_hash.empty())
    require(made->tokenizer_hash == tokenizer->hash(), ErrorKind::Input,
            "{}: made with tokenizer {:.12}, but {} is {:.12}; use the base's own tokenizer", files.path.string(),
            made->tokenizer_hash, tokenizer->source(), tokenizer->hash());
  const auto choose = [&] {
    if (!options.prompt_template.empty()) return text::ChatTemplate::load(options.prompt_template, *tokenizer);
    if (made && !made->template_text.empty())
      return text::ChatTemplate::from_json(made->template_text, files.path.string(), made->template_name);
    return text::ChatTemplate::load(text::ChatTemplate::name_for(*tokenizer), *tokenizer);
  };
  std::string system = text_or_file(options.system);
  if (options.system.empty() && made) system = made->system_prompt;
  return std::make_shared<const text::PromptBuilder>(tokenizer, choose(), system);
}

/// Files that a run's config.json lists under `key`.
TrainingRows rows_of_run(const fs::path& run, const char* key) {
  TrainingRows out;
  const fs::path file = run / "config.json";
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return out;
  const Json config = read_json_file(file.string(), {64, JsonComments::Accept});
  if (!config.is_object() || !config.contains(key) || !config[key].is_array()) return out;
  for (const auto& item : config[key])
    if (item.is_string()) out.files.emplace_back(item.get<std::string>());
  const auto text = [&](const char* name, std::string& value) {
    if (const auto at = config.find(name); at != config.end() && at->is_string()) value = at->get<std::string>();
  };
  text("text_field", out.text_field);
  text("answer_field", out.answer_field);
  return out;
}

}  // namespace

std::string_view path_kind_name(PathKind kind) {
  switch (kind) {
    case PathKind::HfDirectory:
      return "hf";
    case PathKind::Gguf:
      return "gguf";
    case PathKind::Adapter:
      return "adapter";
    case PathKind::Run:
      return "run";
  }
  return "?";
}

PathKind classify(const fs::path& path) {
  std::error_code error;
  require(fs::exists(path, error), ErrorKind::Input, "{}: no such file or directory", path.string());
  if (!fs::is_directory(path)) return PathKind::Gguf;  // the reader names what is wrong with it
  if (formats::PeftAdapter::is_adapter(path)) return PathKind::Adapter;
  if (formats::PeftAdapter::is_adapter(path / "adapter")) return PathKind::Run;
  if (fs::exists(path / "checkpoints") || fs::exists(path / "metrics.jsonl"))
    fail(ErrorKind::Input, "{}: a run without an adapter yet; finish it with slmi train --resume {}", path.string(),
         path.string());
  require(fs::exists(path / "config.json") || !fs::exists(path / kUnfinished), ErrorKind::Input,
          "{}: a model that was not written to its end; run the command that makes it once more", path.string());
  require(fs::exists(path / "config.json"), ErrorKind::Input,
          "{}: no model: neither config.json (Hugging Face), adapter_config.json (PEFT) nor adapter/ (a run)",
          path.string());
  return PathKind::HfDirectory;
}

std::string text_or_file(const std::string& value) {
  std::error_code error;
  if (value.empty() || value.size() > 4096 || !fs::is_regular_file(value, error)) return value;
  std::string text(MappedFile::open(value).text());
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

formats::BaseIdentity identity_of(const formats::Checkpoint& checkpoint, const text::Tokenizer& tokenizer) {
  formats::BaseIdentity id;
  id.name = checkpoint.path().string();
  id.architecture = checkpoint.config().architecture;
  id.tokenizer_hash = tokenizer.hash();
  id.fingerprint = checkpoint.fingerprint();
  if (const auto made = formats::read_provenance(checkpoint)) id.lineage = made->base.lineage;
  return id;
}

ModelFiles open_files(const fs::path& path, const OpenOptions& options) {
  ModelFiles files;
  files.path = path;
  files.kind = classify(path);
  if (files.kind == PathKind::Adapter) files.adapter_path = path;
  if (files.kind == PathKind::Run) files.adapter_path = path / "adapter";
  files.base_path = files.adapter_path.empty() ? path : base_of_adapter(files.adapter_path, options.base);
  files.checkpoint = formats::Checkpoint::open(files.base_path);
  files.provenance = files.adapter_path.empty() ? formats::read_provenance(*files.checkpoint)
                                                : formats::read_provenance(files.adapter_path);
  if (files.provenance && !files.provenance->answer_form.is_null())
    files.answer_form = std::make_shared<const data::AnswerForm>(
        data::AnswerForm::from_json(files.provenance->answer_form, provenance_source(files)));
  files.prompts = make_prompts(files, options);
  files.base = identity_of(*files.checkpoint, files.prompts->tokenizer());
  if (!files.adapter_path.empty() && files.provenance) {
    const auto match =
        formats::check_base(files.provenance->base, files.base, files.adapter_path.string(), files.base_path.string());
    if (match == formats::BaseMatch::LineageUnknown)
      files.note = "base recognised by its norm weights; its lineage is not recorded";
  } else if (!files.adapter_path.empty()) {
    files.note = "the adapter carries no slmi.json: base, template and stop ids are derived, not checked";
  }
  for (const auto& note : files.checkpoint->notes()) files.note += (files.note.empty() ? "" : "; ") + note;
  return files;
}

OpenedModel open_model(const fs::path& path, const OpenOptions& options) {
  OpenedModel out;
  out.files = open_files(path, options);
  LoadOptions load = options.load;
  load.through_nf4 = out.files.trained_on_nf4();
  if (!out.files.adapter_path.empty()) load.resident_weights = ResidentWeights::AtAttach;
  out.llama = Llama::load(*out.files.checkpoint, load);
  if (!out.files.adapter_path.empty()) {
    const auto adapter = formats::PeftAdapter::open(out.files.adapter_path);
    out.lora = std::make_shared<Lora>(Lora::from_adapter(out.files.checkpoint->config(), adapter, options.load.device));
    out.llama->attach(*out.lora);
  }
  return out;
}

std::vector<int64_t> stop_ids(const ModelFiles& files) {
  std::vector<int64_t> ids;
  for (const int32_t id : files.prompts->stop_ids()) ids.push_back(id);
  for (const int64_t id : files.checkpoint->config().eos_token_ids)
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  return ids;
}

TrainingRows training_rows(const fs::path& run) {
  return rows_of_run(run, "data");
}

TrainingRows validation_rows(const fs::path& run) {
  return rows_of_run(run, "val");
}

formats::Provenance provenance_of(const ModelFiles& files, const std::string& command) {
  const auto prompts = files.prompts->describe();
  formats::Provenance p;
  p.version = build_info().version;
  p.commit = git_commit();
  p.command = command;
  p.tokenizer_hash = prompts.tokenizer_hash;
  p.template_name = prompts.template_name;
  p.template_text = prompts.template_text;
  p.template_hash = prompts.template_hash;
  p.system_prompt = prompts.system_text;
  p.stop_ids = stop_ids(files);
  p.base = files.base;
  p.weights = formats::weights_origin(*files.checkpoint, files.provenance);
  if (files.provenance) p.answer_form = files.provenance->answer_form;
  return p;
}

}  // namespace slmi::model
