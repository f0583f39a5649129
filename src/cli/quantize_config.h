// What `slmi quantize` can be told: one field list for flags, JSON file and help.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "quantize_gptq.h"
#include "runtime.h"
#include "slmi/config/config.h"
#include "slmi/model/gguf_export.h"

namespace slmi::cli {

/// How weights of GGUF blocks get their codes.
enum class Rounding { Gptq, Nearest };

struct QuantizeConfig {
  std::string model_path, out;
  bool gguf = false, gptq = false, nf4 = false;
  std::string type = "Q4_K_M";
  std::vector<std::string> tensor_type;
  Rounding rounding = Rounding::Gptq;
  std::string name;
  bool adapter_only = false;
  model::MergeOnto onto = model::MergeOnto::Auto;
  std::vector<std::string> calibration;
  std::optional<int64_t> calibration_rows;
  std::vector<std::string> val;
  int64_t rows = 200;
  double max_drop = 0.5;
  bool answer_form = true;
  std::string text_field = "text", answer_field = "answer";
  GptqFlags gptq_flags;
  ModelFlags model;

  template <class V>
  static void fields(V&& field) {
    using namespace config;
    using T = QuantizeConfig;
    using model::MergeOnto;
    field("model", &T::model_path, Required{}, Group{"From and to"}, Metavar{"MODEL"}, Synonyms{"adapter", "input"},
          "A run, a PEFT adapter (each is merged on the fly), a Hugging Face directory or a GGUF file");
    field("out", &T::out, Required{}, Metavar{"FILE.gguf|DIR"}, Synonyms{"output", "output-dir", "outfile"},
          "File (--gguf) or directory to write; a GPTQ job that was stopped there goes on");
    field("gguf", &T::gguf, "Write a GGUF file, for llama.cpp and what builds on it");
    field("gptq", &T::gptq, "Write 4 bits in GPTQ's form, for vLLM, transformers and GPTQModel");
    field("nf4", &T::nf4, Synonyms{"bnb", "bitsandbytes"}, "Write 4 bits in bitsandbytes' form, for transformers");
    field("type", &T::type, Group{"GGUF"}, OnlyWith{"gguf"}, NotWith{"adapter_only"}, Metavar{"TYPE"},
          Synonyms{"outtype", "qtype", "quantization"},
          "How matrices are stored: F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0 or Q3_K_M");
    field("tensor_type", &T::tensor_type, OnlyWith{"gguf"}, NotWith{"adapter_only"}, Metavar{"PATTERN=TYPE"},
          "Another type for tensors whose name holds a match of a regular expression, e.g. attn_v=Q8_0");
    field("rounding", &T::rounding, OnlyWith{"gguf"}, NotWith{"adapter_only"},
          Choice<Rounding>{{"gptq", Rounding::Gptq}, {"nearest", Rounding::Nearest}},
          "How blocks below 8 bits are rounded where there are calibration rows: by GPTQ, layer by layer, or each "
          "weight to its nearest value (faster, less exact)");
    field("name", &T::name, OnlyWith{"gguf"}, Metavar{"TEXT"}, DefaultText{"the model's own"},
          "general.name in the file");
    field("adapter_only", &T::adapter_only, OnlyWith{"gguf"}, Synonyms{"lora"},
          "Write the adapter alone, for llama.cpp's --lora beside a GGUF file of its base");
    field("onto", &T::onto, Group{"Adapters"}, NotWith{"adapter_only"},
          Choice<MergeOnto>{{"auto", MergeOnto::Auto}, {"w16", MergeOnto::W16}, {"dequant", MergeOnto::Dequant}},
          "Base that an adapter is added to, as in slmi merge");
    field("calibration", &T::calibration, Group{"Calibration"}, OnlyWith{"gguf", "gptq"}, NotWith{"adapter_only"},
          Metavar{"FILE"}, Synonyms{"imatrix", "calibration-file", "dataset", "calibration-dataset"},
          DefaultText{"what the run was trained on"}, "Rows that say which inputs matter most, JSONL; may be repeated");
    field("calibration_rows", &T::calibration_rows, OnlyWith{"gguf", "gptq"}, NotWith{"adapter_only"}, AtLeast{0},
          Synonyms{"num-samples", "nsamples"}, DefaultText{kCalibrationRowsText},
          "Rows of them to use, spread evenly (0, --gguf alone: all weights count the same)");
    field("val", &T::val, Group{"Drift: the model before and after"}, NotWith{"adapter_only"}, Metavar{"FILE"},
          Synonyms{"data", "eval-file", "validation"}, DefaultText{"what the run was validated on"},
          "Rows that both answer, JSONL");
    field("rows", &T::rows, NotWith{"adapter_only"}, AtLeast{0}, Synonyms{"val-rows", "limit"},
          "Use the first N rows of each file (0: no drift)");
    field("text_field", &T::text_field, NotWith{"adapter_only"}, "Name of the request's field in intent rows");
    field("answer_field", &T::answer_field, NotWith{"adapter_only"}, "Name of the target's field in intent rows");
    field("max_drop", &T::max_drop, NotWith{"adapter_only"}, AtLeast{0}, Synonyms{"threshold"},
          "Exit with 6 if exact match falls by more points than this");
    field("answer_form", &T::answer_form, NotWith{"adapter_only"}, kAnswerFormHelp);
    field(Inline{}, &T::gptq_flags);
    field(Inline{}, &T::model, Group{"Model and machine"});
  }
  void check(std::vector<std::string>& problems) const {
    if (int{gguf} + int{gptq} + int{nf4} != 1) problems.emplace_back("say which form: --gguf, --gptq or --nf4");
    if (rounding == Rounding::Nearest && !(solver_options(gptq_flags) == solver_options({})))
      problems.emplace_back(
          "--damp, --damp-step, --max-damp and --drift-alpha have no meaning with --rounding nearest");
    if (gptq && calibration_rows == std::optional<int64_t>(0))
      problems.emplace_back("calibration_rows = 0; --gptq needs rows to calibrate on: expected 1 or more");
  }
};

void run_quantize_gguf(const QuantizeConfig& config, Runtime& rt);
void run_quantize_gptq(const QuantizeConfig& config, Runtime& rt);
void run_quantize_nf4(const QuantizeConfig& config, Runtime& rt);

}  // namespace slmi::cli
