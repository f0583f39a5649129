// Reading artefacts for people; see the header.
#include "inspect_artefact.h"

#include <ATen/ops/from_blob.h>
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "runtime.h"
#include "slmi/base/error.h"
#include "slmi/base/mapped_file.h"
#include "slmi/formats/checkpoint.h"
#include "slmi/formats/peft_adapter.h"
#include "slmi/formats/provenance.h"
#include "slmi/model/open.h"
#include "slmi/quant/weight_format.h"
#include "slmi/text/tokenizer.h"
#include "slmi/train/checkpoint.h"

namespace slmi::cli {
namespace {

namespace fs = std::filesystem;

class Inspector {
 public:
  Inspector(fs::path path, const InspectOptions& options) : path_(std::move(path)), options_(options) {
    out_.path = path_.string();
    out_.kind = "unknown";
  }

  Inspection run() {
    attempt([&] { pick(); });
    summarize_tensors();
    return std::move(out_);
  }

 private:
  /// Runs one part; what it finds wrong is listed, and the next part still has its turn.
  bool attempt(const std::function<void()>& part) {
    try {
      part();
      return true;
    } catch (const Error& e) {
      if (e.kind() != ErrorKind::Input) throw;
      out_.problems.emplace_back(e.what());
      return false;
    }
  }

  void pick() {
    std::error_code error;
    require(fs::exists(path_, error), ErrorKind::Input, "{}: no such file or directory", path_.string());
    if (fs::is_directory(path_)) return pick_directory();
    const MappedFile file = MappedFile::open(path_);
    const std::string_view text = file.text();
    const std::string extension = path_.extension().string();
    if (text.starts_with("GGUF") || extension == ".gguf") return gguf();
    if (extension == ".safetensors" || (text.size() > 8 && text[8] == '{' && text[7] == '\0')) return safetensors();
    for (const char* name : {"config.json", "adapter_config.json", "generation_config.json", formats::kProvenanceFile})
      require(path_.filename() != name, ErrorKind::Input,
              "{}: a part of a model; inspect the directory that it lies in", path_.string());
    const auto loaded = text::Tokenizer::load(path_);
    out_.kind = "tokenizer";
    tokenizer(*loaded);
  }

  void pick_directory() {
    const bool run = fs::exists(path_ / "checkpoints") || fs::exists(path_ / "metrics.jsonl") ||
                     formats::PeftAdapter::is_adapter(path_ / "adapter");
    if (formats::PeftAdapter::is_adapter(path_)) return adapter(path_);
    if (run) return run_directory();
    if (fs::exists(path_ / "config.json") || fs::exists(path_ / "model.safetensors") ||
        fs::exists(path_ / "model.safetensors.index.json"))
      return hf_directory();
    require(
        text::Tokenizer::is_in(path_), ErrorKind::Input,
        "{}: nothing that is known: no config.json (model), adapter_config.json (adapter), adapter/ or checkpoints/ "
        "(run), tokenizer.json, tokenizer.model or original/tokenizer.model",
        path_.string());
    const auto loaded = text::Tokenizer::load(path_);
    out_.kind = "tokenizer";
    tokenizer(*loaded);
  }

  void hf_directory() {
    out_.kind = "Hugging Face directory";
    attempt([&] { provenance(formats::read_provenance(path_)); });
    std::shared_ptr<const formats::Checkpoint> checkpoint;
    attempt([&] { checkpoint = formats::Checkpoint::open(path_); });
    if (checkpoint) attempt([&] { weights(*checkpoint); });
    if (!text::Tokenizer::is_in(path_)) {
      out_.notes.emplace_back("no tokenizer in this directory; name one with --tokenizer when using it");
    } else if (checkpoint) {
      attempt([&] { prompts(model::open_files(path_, {})); });
      out_.next = fmt::format("slmi predict --model {} \"your request\"", shell_quoted(path_.string()));
    } else {
      attempt([&] { tokenizer(*text::Tokenizer::load(path_)); });
    }
  }

  void gguf() {
    out_.kind = "GGUF";
    const auto file = formats::GgufFile::open(path_);
    out_.facts["gguf"] = {
        {"version", file.version()}, {"keys", file.metadata().size()}, {"file_bytes", file.file_bytes()}};
    const auto text_of = [&](const char* key) -> std::string {
      const auto* value = file.find(key);
      return value != nullptr ? std::string(value->as_string()) : "";
    };
    if (const auto name = text_of("general.name"); !name.empty()) out_.facts["name"] = name;
    if (const auto architecture = text_of("general.architecture"); architecture != "llama") {
      out_.notes.push_back(
          fmt::format("architecture '{}': slmi runs 'llama' alone; the file as such is sound", architecture));
      for (const auto& [name, t] : file.tensors())
        add_tensor(name, std::string(quant::name(t.format)), t.shape, t.bytes.size());
      return;
    }
    attempt([&] {
      if (const auto made = formats::read_provenance(file)) provenance(*made);
    });
    if (text_of("general.type") == "adapter") {
      out_.kind = "GGUF adapter";
      out_.notes.push_back("for llama.cpp's --lora; slmi runs the PEFT directory that it was made of");
      for (const auto& [name, t] : file.tensors())
        add_tensor(name, std::string(quant::name(t.format)), t.shape, t.bytes.size());
      return;
    }
    std::shared_ptr<const formats::Checkpoint> checkpoint;
    attempt([&] { checkpoint = formats::Checkpoint::open(path_); });
    if (checkpoint) attempt([&] { weights(*checkpoint); });
    if (!checkpoint) {
      attempt([&] { tokenizer(*text::Tokenizer::from_gguf(file)); });
      return;
    }
    attempt([&] { prompts(model::open_files(path_, {})); });
    out_.next = fmt::format("slmi train --base {} --data TRAIN.jsonl --out run", shell_quoted(path_.string()));
  }

  void safetensors() {
    out_.kind = "safetensors";
    const auto file = formats::SafetensorsFile::open(path_);
    for (const auto& [key, value] : file.metadata()) out_.facts["metadata"][key] = value;
    uint64_t bad = 0;
    for (const auto& [name, t] : file.tensors()) {
      add_tensor(name, std::string(formats::dtype_name(t.dtype)), t.shape, t.bytes.size());
      using formats::Dtype;
      if (t.dtype == Dtype::F32 || t.dtype == Dtype::F16 || t.dtype == Dtype::BF16)
        bad += check_finite(
            name, [&, &tensor = t, &name = name] { return formats::floats_from(tensor.dtype, tensor.bytes, name); });
    }
    note_values(bad);
  }

  void adapter(const fs::path& directory) {
    if (out_.kind == "unknown") out_.kind = "PEFT adapter";
    const auto opened = formats::PeftAdapter::open(directory);
    const auto& c = opened.config();
    out_.facts["lora"] = {{"rank", c.r},
                          {"alpha", c.alpha},
                          {"scale", c.scale()},
                          {"dropout", c.dropout},
                          {"rank_stabilized", c.use_rslora},
                          {"targets", c.target_modules},
                          {"modules", opened.pairs().size()}};
    out_.facts["base"] = c.base_model_name_or_path;
    uint64_t bad = 0;
    for (const auto& [name, t] : opened.file().tensors()) {
      add_tensor(name, std::string(formats::dtype_name(t.dtype)), t.shape, t.bytes.size());
      bad += check_finite(
          name, [&, &tensor = t, &name = name] { return formats::floats_from(tensor.dtype, tensor.bytes, name); });
    }
    note_values(bad);
    attempt([&] { provenance(formats::read_provenance(directory)); });
    const std::string& named = c.base_model_name_or_path;
    const bool base_here =
        !options_.base.empty() || (!named.empty() && (fs::exists(named) || fs::exists(directory / named)));
    if (!base_here) {
      out_.notes.push_back(
          fmt::format("its base '{}' is not here, so whether they fit was not checked; name it with --base", named));
      return;
    }
    attempt([&] {
      model::OpenOptions open;
      open.base = options_.base;
      const auto files = model::open_files(directory, open);
      model::Lora::from_adapter(files.checkpoint->config(), opened, at::kCPU);  // shapes against the base
      if (!files.note.empty()) out_.notes.push_back(files.note);
      out_.facts["base_format"] = files.checkpoint->formats_text();
      prompts(files);
    });
    out_.next = fmt::format("slmi merge --model {} --out merged", shell_quoted(path_.string()));
  }

  void run_directory() {
    out_.kind = "run";
    attempt([&] { metrics(); });
    Json names = Json::array();
    for (const auto& checkpoint : train::list_checkpoints(path_)) {
      names.push_back(checkpoint.filename().string());
      for (const auto& entry : fs::directory_iterator(checkpoint))
        attempt([&] {
          if (entry.path().extension() == ".safetensors") formats::SafetensorsFile::open(entry.path());
          if (entry.path().extension() == ".json") read_json_file(entry.path().string());
        });
    }
    out_.facts["checkpoints"] = names;
    if (formats::PeftAdapter::is_adapter(path_ / "adapter")) {
      attempt([&] { adapter(path_ / "adapter"); });
    } else {
      out_.notes.push_back("no adapter yet: the run is not finished");
      out_.next = fmt::format("slmi train --resume {}", shell_quoted(path_.string()));
    }
  }

  void metrics() {
    const fs::path path = path_ / "metrics.jsonl";
    require(fs::exists(path), ErrorKind::Input, "{}: missing; a run has one", path.string());
    const MappedFile file = MappedFile::open(path);
    const std::string_view text = file.text();
    Json facts = {{"lines", 0}};
    int64_t line = 0;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = text.find('\n', begin);
      if (end == std::string_view::npos) {
        out_.notes.push_back(fmt::format(
            "{}: the last line has no end: the run was stopped while writing; --resume goes on", path.string()));
        break;
      }
      const Json entry = parse_json(text.substr(begin, end - begin), fmt::format("{}:{}", path.string(), ++line));
      for (const char* key : {"step", "loss", "val_loss", "val_exact_match"})
        if (entry.is_object() && entry.contains(key)) facts[key] = entry[key];
      begin = end + 1;
    }
    facts["lines"] = line;
    out_.facts["metrics"] = facts;
  }

  void weights(const formats::Checkpoint& checkpoint) {
    const auto& c = checkpoint.config();
    out_.facts["architecture"] = c.architecture;
    out_.facts["config"] = {{"layers", c.num_layers},
                            {"width", c.hidden_size},
                            {"ffn", c.intermediate_size},
                            {"heads", c.num_heads},
                            {"kv_heads", c.num_kv_heads},
                            {"head_width", c.head_dim},
                            {"vocabulary", c.vocab_size},
                            {"context", c.max_position_embeddings},
                            {"rope_theta", c.rope_theta},
                            {"rope_scaling", c.rope_scaling.kind == formats::RopeScalingKind::None     ? "none"
                                             : c.rope_scaling.kind == formats::RopeScalingKind::Linear ? "linear"
                                             : c.rope_scaling.kind == formats::RopeScalingKind::Llama3 ? "llama3"
                                                                                                       : "divisors"},
                            {"head", c.tie_word_embeddings ? "tied" : "separate"}};
    if (c.rope_scaling.kind == formats::RopeScalingKind::Llama3)
      out_.facts["rope_scaling"] = {{"factor", c.rope_scaling.factor},
                                    {"low_freq_factor", c.rope_scaling.low_freq_factor},
                                    {"high_freq_factor", c.rope_scaling.high_freq_factor},
                                    {"original_context", c.rope_scaling.original_max_position_embeddings}};
    out_.facts["eos_token_ids"] = c.eos_token_ids;
    out_.facts["fingerprint"] = checkpoint.fingerprint();
    out_.facts["file_bytes"] = checkpoint.file_bytes();
    if (checkpoint.gptq()) out_.facts["quantization"] = checkpoint.gptq()->to_json();
    out_.notes.insert(out_.notes.end(), checkpoint.notes().begin(), checkpoint.notes().end());
    uint64_t bad = 0;
    for (const auto& name : checkpoint.names()) {
      const auto t = checkpoint.tensor(name);
      add_tensor(name, std::string(quant::name(t.format)), t.shape, t.stored_bytes());
      bad += check_finite(name, [&] { return values_of(t); });
    }
    note_values(bad);
  }

  static std::vector<float> values_of(const formats::StoredTensor& t) {
    if (t.shape.size() != 2) return formats::to_floats(t);
    std::vector<float> out(formats::num_elements(t.shape));
    ops::PackedMatrix::from_stored(t).dequantize_into(at::from_blob(out.data(), {t.shape[0], t.shape[1]}, at::kFloat));
    return out;
  }

  void tokenizer(const text::Tokenizer& t) {
    const auto named = [&](std::optional<int32_t> id) {
      return id ? Json(fmt::format("{} {}", *id, t.token_bytes(*id))) : Json(nullptr);
    };
    out_.facts["tokenizer"] = {{"kind", text::tokenizer_kind_name(t.kind())},
                               {"splitter", t.splitter_name()},
                               {"tokens", t.vocab_size()},
                               {"special_tokens", t.special_names().size()},
                               {"bos", named(t.bos_id())},
                               {"eos", named(t.eos_id())},
                               {"pad", named(t.pad_id())},
                               {"hash", t.hash()}};
  }

  void prompts(const model::ModelFiles& files) {
    tokenizer(files.prompts->tokenizer());
    const auto d = files.prompts->describe();
    out_.facts["template"] = {{"name", d.template_name}, {"hash", d.template_hash}, {"text", d.template_summary}};
    if (!d.system_text.empty()) out_.facts["system"] = d.system_text;
    out_.facts["stop_ids"] = model::stop_ids(files);
  }

  void provenance(const std::optional<formats::Provenance>& p) {
    if (!p) {
      out_.notes.push_back("no slmi.json: made by another program; base, template and stop ids are derived");
      return;
    }
    Json facts = p->to_json();
    facts["template"].erase("text");  // shown by its summary
    out_.facts["provenance"] = facts;
  }

  void add_tensor(const std::string& name, const std::string& format, const formats::Shape& shape, uint64_t bytes) {
    out_.tensors.push_back({name, format, formats::shape_text(shape), formats::num_elements(shape), bytes});
  }

  /// Values that are no numbers.
  uint64_t check_finite(const std::string& name, const std::function<std::vector<float>()>& values) {
    if (!options_.check_values) return 0;
    const auto v = values();
    const auto bad = std::find_if(v.begin(), v.end(), [](float x) { return !std::isfinite(x); });
    if (bad == v.end()) return 0;
    const auto count = std::count_if(bad, v.end(), [](float x) { return !std::isfinite(x); });
    out_.problems.push_back(fmt::format("{}: tensor '{}': {} of {} values are NaN or infinite, the first is element {}",
                                        path_.string(), name, count, v.size(), bad - v.begin()));
    return static_cast<uint64_t>(count);
  }

  void note_values(uint64_t bad) {
    out_.facts["values"] = !options_.check_values ? "not looked at" : bad == 0 ? "all finite" : "NaN or infinite ones";
  }

  void summarize_tensors() {
    if (out_.tensors.empty()) return;
    struct Group {
      uint64_t count = 0, elements = 0, bytes = 0;
    };
    std::map<std::string, Group> groups;
    Group all;
    for (const auto& t : out_.tensors) {
      for (Group* g : {&groups[t.format], &all}) {
        ++g->count;
        g->elements += t.elements;
        g->bytes += t.bytes;
      }
    }
    Json list = Json::array();
    for (const auto& [format, g] : groups)
      list.push_back({{"format", format}, {"tensors", g.count}, {"elements", g.elements}, {"bytes", g.bytes}});
    out_.facts["parameters"] = all.elements;
    out_.facts["tensors"] = list;
  }

  fs::path path_;
  const InspectOptions& options_;
  Inspection out_;
};

}  // namespace

Inspection inspect(const fs::path& path, const InspectOptions& options) {
  return Inspector(path, options).run();
}

}  // namespace slmi::cli
