// slmi.json and the comparison of bases; see the header.
#include "slmi/formats/provenance.h"

#include "config_fields.h"
#include "slmi/base/atomic_file.h"
#include "slmi/formats/checkpoint.h"

namespace slmi::formats {
namespace {

std::vector<std::string> strings_of(const Json& value, const char* key, Problems& problems) {
  std::vector<std::string> out;
  if (!value.is_array()) {
    problems.add("{} is {}; expected a list of strings", key, value.type_name());
    return out;
  }
  for (const Json& item : value) {
    if (!item.is_string()) {
      problems.add("{}: {} is not a string", key, Fields::shown(item));
      return {};
    }
    out.push_back(item.get<std::string>());
  }
  return out;
}

Json base_to_json(const BaseIdentity& base) {
  return {{"name", base.name},
          {"architecture", base.architecture},
          {"tokenizer_hash", base.tokenizer_hash},
          {"fingerprint", base.fingerprint},
          {"lineage", base.lineage ? Json(*base.lineage) : Json(nullptr)}};
}

BaseIdentity base_from_json(const Json& json, Problems& problems) {
  BaseIdentity out;
  if (!json.is_object()) {
    problems.add("base is {}; expected an object", json.type_name());
    return out;
  }
  const Fields fields(json, problems, "base.");
  out.name = fields.text("name", "");
  out.architecture = fields.text("architecture", "");
  out.tokenizer_hash = fields.text("tokenizer_hash", "");
  out.fingerprint = fields.text("fingerprint", "");
  if (const Json* lineage = fields.find("lineage")) out.lineage = strings_of(*lineage, "base.lineage", problems);
  return out;
}

std::vector<int64_t> stop_ids_of(const Json& value, Problems& problems) {
  std::vector<int64_t> out;
  for (const Json& id : value.is_array() ? value : Json::array({value})) {
    const auto number = integer_of(id);
    if (!number || *number < 0) {
      problems.add("stop_ids = {}; expected a list of token ids", Fields::shown(value));
      return {};
    }
    out.push_back(*number);
  }
  return out;
}

bool looks_untrained(const Checkpoint& checkpoint) {
  for (const auto& name : checkpoint.names()) {
    if (!name.ends_with("norm.weight")) continue;
    for (const float value : to_floats(checkpoint.tensor(name)))
      if (value != 1.0F) return false;
  }
  return true;
}

}  // namespace

std::string weights_origin(const Checkpoint& base, const std::optional<Provenance>& artefact) {
  if (const auto own = read_provenance(base); own && !own->weights.empty()) return own->weights;
  if (artefact && !artefact->weights.empty()) return artefact->weights;
  return looks_untrained(base) ? "random" : "";
}

Json Provenance::to_json() const {
  return {{"schema", kProvenanceSchema},
          {"writer", {{"name", "slmi"}, {"version", version}, {"commit", commit}}},
          {"command", command},
          {"tokenizer_hash", tokenizer_hash},
          {"template", {{"name", template_name}, {"text", template_text}, {"hash", template_hash}}},
          {"system_prompt", system_prompt},
          {"stop_ids", stop_ids},
          {"base", base_to_json(base)},
          {"adapter", adapter},
          {"trained_on", trained_on},
          {"merge_base", merge_base},
          {"quantization", quantization},
          {"calibration_hash", calibration_hash},
          {"weights", weights},
          {"answer_form", answer_form}};
}

Provenance Provenance::from_json(const Json& json, const std::string& source) {
  require(json.is_object(), ErrorKind::Input, "{}: holds {}; expected an object", source, json.type_name());
  Problems problems(source);
  const Fields fields(json, problems);
  const int64_t schema = fields.integer("schema", 1, INT64_MAX);
  require(schema <= kProvenanceSchema, ErrorKind::Input, "{}: schema {}; this program reads up to {}: take a newer one",
          source, schema, kProvenanceSchema);
  Provenance out;
  const Json empty = Json::object();
  const auto object = [&](const char* key) -> const Json& {
    const Json* value = fields.find(key);
    if (value == nullptr) return empty;
    if (!value->is_object()) problems.add("{} is {}; expected an object", key, value->type_name());
    return value->is_object() ? *value : empty;
  };
  const Fields writer(object("writer"), problems, "writer."), chat(object("template"), problems, "template.");
  out.version = writer.text("version", "");
  out.commit = writer.text("commit", "");
  out.command = fields.text("command", "");
  out.tokenizer_hash = fields.text("tokenizer_hash", "");
  out.template_name = chat.text("name", "");
  out.template_text = chat.text("text", "");
  out.template_hash = chat.text("hash", "");
  out.system_prompt = fields.text("system_prompt", "");
  if (const Json* ids = fields.find("stop_ids")) out.stop_ids = stop_ids_of(*ids, problems);
  if (const Json* base = fields.find("base")) out.base = base_from_json(*base, problems);
  out.adapter = fields.text("adapter", "");
  out.trained_on = fields.text("trained_on", "");
  out.merge_base = fields.text("merge_base", "");
  out.quantization = fields.text("quantization", "");
  out.calibration_hash = fields.text("calibration_hash", "");
  out.weights = fields.text("weights", "");
  if (const Json* form = fields.find("answer_form")) out.answer_form = *form;
  problems.throw_if_any();
  return out;
}

void write_provenance(const std::filesystem::path& directory, const Provenance& provenance) {
  write_file_atomically(directory / kProvenanceFile, provenance.to_json().dump(2) + "\n");
}

std::optional<Provenance> read_provenance(const std::filesystem::path& directory) {
  const auto path = directory / kProvenanceFile;
  if (!std::filesystem::exists(path)) return std::nullopt;
  return Provenance::from_json(read_json_file(path.string()), path.string());
}

std::optional<Provenance> read_provenance(const GgufFile& file) {
  const GgufValue* value = file.find(kProvenanceGgufKey);
  if (value == nullptr) return std::nullopt;
  const std::string source = fmt::format("{}: {}", file.source(), kProvenanceGgufKey);
  return Provenance::from_json(parse_json(value->as_string(), source), source);
}

std::optional<Provenance> read_provenance(const Checkpoint& checkpoint) {
  return checkpoint.gguf() != nullptr ? read_provenance(*checkpoint.gguf()) : read_provenance(checkpoint.path());
}

BaseMatch check_base(const BaseIdentity& made_on, const BaseIdentity& at_hand, const std::string& artefact,
                     const std::string& base_path) {
  const auto compare = [&](const char* what, const std::string& wanted, const std::string& got) {
    require(wanted.empty() || got.empty() || wanted == got, ErrorKind::Input,
            "{}: made on another base than {}: its {} is {}, this one's {}; give the base that it was trained on{}",
            artefact, base_path, what, wanted, got,
            made_on.name.empty() ? std::string() : fmt::format(" ({})", made_on.name));
  };
  compare("architecture", made_on.architecture, at_hand.architecture);
  compare("tokenizer", made_on.tokenizer_hash, at_hand.tokenizer_hash);
  compare("fingerprint of the norm weights", made_on.fingerprint, at_hand.fingerprint);
  // Neither is said to be made from another model: what the fingerprint says is all there is to say.
  if (!made_on.lineage && !at_hand.lineage) return BaseMatch::Same;
  if (!made_on.lineage || !at_hand.lineage) return BaseMatch::LineageUnknown;
  compare("lineage", fmt::format("[{}]", fmt::join(*made_on.lineage, ", ")),
          fmt::format("[{}]", fmt::join(*at_hand.lineage, ", ")));
  return BaseMatch::Same;
}

}  // namespace slmi::formats
