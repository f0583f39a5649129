// slmi.json: what an artefact says of itself, and whether an adapter and a base belong together.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "slmi/base/json.h"

namespace slmi::formats {

inline constexpr int64_t kProvenanceSchema = 1;
inline constexpr const char* kProvenanceFile = "slmi.json";
inline constexpr const char* kProvenanceGgufKey = "slmi.provenance";

/// Which base model something was made on. Not the bytes of its matrices: an adapter trained on the NF4 form fits the
/// 16-bit form and the GGUF file of the same base.
struct BaseIdentity {
  std::string name;                                 // path or hub name, for people
  std::string architecture;                         // "LlamaForCausalLM"
  std::string tokenizer_hash;                       // SHA-256; empty: unknown
  std::string fingerprint;                          // Checkpoint::fingerprint()
  std::optional<std::vector<std::string>> lineage;  // hashes of what it was made from, in order; absent: unknown
};

struct Provenance {
  std::string version, commit;  // of the writer
  std::string command;          // the command line
  std::string tokenizer_hash;
  std::string template_name, template_text, template_hash;
  std::string system_prompt;
  std::vector<int64_t> stop_ids;
  BaseIdentity base;
  std::string adapter;                         // path and hash, or empty
  std::string trained_on;                      // of an adapter: how its base was held in training, "nf4"; or empty
  std::string merge_base;                      // "w16", "dequant", "nf4" or empty
  std::string quantization, calibration_hash;  // or empty
  std::string weights;                         // "real" or "random"
  Json answer_form;                            // data::AnswerForm of the training answers, or null
  Json to_json() const;
  /// @throws Error{Input} naming source and key for wrong types or a newer schema; unknown keys are ignored.
  static Provenance from_json(const Json& json, const std::string& source);
};

class Checkpoint;
class GgufFile;
/// Provenance::weights of a base: "real" or "random" if the provenance of the base says so, else what the artefact made
/// on it says (absent: nothing), else "random" if all norm weights are exactly 1, as a fresh Llama has them (training
/// moves them), else "": not known.
std::string weights_origin(const Checkpoint& base, const std::optional<Provenance>& artefact);

/// Writes `directory`/slmi.json atomically.
void write_provenance(const std::filesystem::path& directory, const Provenance& provenance);
/// Empty if the directory has no slmi.json: files of other tools carry none.
std::optional<Provenance> read_provenance(const std::filesystem::path& directory);
/// The same from a GGUF file's key slmi.provenance.
std::optional<Provenance> read_provenance(const GgufFile& file);
/// Of whichever form the checkpoint has.
std::optional<Provenance> read_provenance(const Checkpoint& checkpoint);

enum class BaseMatch {
  Same,            // fingerprint and lineage agree, or neither side names a lineage
  LineageUnknown,  // fingerprint agrees; one side names a lineage and the other does not: a note to the user
};
/// Compares the base that an artefact was made on with the one at hand. @throws Error{Input} that says what contradicts
/// (architecture, tokenizer, fingerprint or lineage), with `artefact` and `base_path` in the message.
BaseMatch check_base(const BaseIdentity& made_on, const BaseIdentity& at_hand, const std::string& artefact,
                     const std::string& base_path);

}  // namespace slmi::formats
