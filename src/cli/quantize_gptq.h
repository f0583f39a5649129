// What GPTQ, in its own form or onto GGUF blocks, and `slmi quantize --nf4` can be told, beside what every form knows.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "slmi/calib/calibration_rows.h"
#include "slmi/calib/gptq_solver.h"
#include "slmi/config/config.h"

namespace slmi::cli {

/// What only these forms know.
struct GptqFlags {
  bool double_quant = true;
  int64_t group_size = 0;
  bool act_order = false;
  bool group_aware = true;
  double damp = 0.05, damp_step = 0.01, max_damp = 0.5;
  double drift_alpha = 0.5;
  double answer_weight = calib::CalibrationOptions{}.answer_weight;
  std::optional<int64_t> calibration_tokens;
  int64_t micro_tokens = 4096;
  double max_shard_gb = 5.0;

  template <class V>
  static void fields(V&& field) {
    using namespace config;
    using T = GptqFlags;
    field("group_size", &T::group_size, Group{"GPTQ"}, OnlyWith{"gptq"}, AtLeast{-1},
          Synonyms{"groupsize", "q-group-size"}, DefaultText{"the largest of 128, 64, 32 that divides every row"},
          "Inputs that share a scale: 32, 64 or 128; -1: all of a row");
    field("act_order", &T::act_order, OnlyWith{"gptq"}, Synonyms{"desc-act"},
          "Quantize columns by falling activation; more exact, but slower kernels where it is used");
    field("group_aware", &T::group_aware, OnlyWith{"gptq"}, NotWith{"act_order"}, Synonyms{"act-group-aware"},
          "Order groups, and columns inside them, by activation: costs nothing where the model is used");
    field("damp", &T::damp, OnlyWith{"gguf", "gptq"}, Range{1e-6, 1}, Synonyms{"damp-percent"},
          "Added to the Hessian's diagonal, as a share of its mean");
    field("damp_step", &T::damp_step, OnlyWith{"gguf", "gptq"}, Range{1e-6, 1}, Synonyms{"damp-auto-increment"},
          "Added to that share each time the factorization fails");
    field("max_damp", &T::max_damp, OnlyWith{"gguf", "gptq"}, Range{1e-6, 1}, "Where to give up, with an error");
    field("drift_alpha", &T::drift_alpha, OnlyWith{"gguf", "gptq"}, Range{0, 1}, Synonyms{"gptaq-alpha"},
          "How far each matrix makes up for what those before it changed, as GPTAQ; 0: not at all");
    field("answer_weight", &T::answer_weight, OnlyWith{"gguf", "gptq"}, AtLeast{1},
          "What a calibration row's answer counts, token by token, against 1 of the request");
    field("calibration_tokens", &T::calibration_tokens, OnlyWith{"gguf", "gptq"}, AtLeast{1},
          Synonyms{"seqlen", "max-seq-len"}, DefaultText{"whole rows"},
          "Longest row in tokens; the rest of a row is left out");
    field("micro_tokens", &T::micro_tokens, OnlyWith{"gguf", "gptq"}, AtLeast{16}, Synonyms{"batch-size"},
          "Tokens computed at once");
    field("double_quant", &T::double_quant, Group{"NF4"}, OnlyWith{"nf4"}, Synonyms{"bnb-4bit-use-double-quant"},
          "Quantize the scales as well: 4.127 bits a weight instead of 4.5");
    field("max_shard_gb", &T::max_shard_gb, Group{"Files"}, OnlyWith{"gptq", "nf4"}, Above{0},
          Synonyms{"max-shard-size"}, "Largest weight file, in units of 10^9 bytes");
  }
  void check(std::vector<std::string>& problems) const;
};

calib::SolverOptions solver_options(const GptqFlags& flags);

}  // namespace slmi::cli
