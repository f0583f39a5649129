// What every subcommand shares: streams, signals, the device and the numbers it computes in.
#pragma once

#include <c10/util/Exception.h>

#include <atomic>
#include <iosfwd>
#include <string>

#include "slmi/model/open.h"
#include "slmi/train/config.h"

namespace slmi::cli {

struct Runtime {
  std::ostream& out;  // results
  std::ostream& err;  // progress and notes
  std::string command_line;
  std::atomic<int>& signal;  // SIGINT or SIGTERM that arrived, or 0
};

inline constexpr const char* kAnswerFormHelp =
    "Hold answers to the form of the training answers (keys, labels, names shown), where the model brings one";

/// Calibration rows, where no number is given: importances are done with a few, GPTQ's Hessians gain by more. Long rows
/// (a product list in each) hold as much in fewer, and time goes with their tokens.
inline constexpr int64_t kGptqRows = 512, kImportanceRows = 128, kCalibrationTokens = 65536;
inline constexpr const char* kCalibrationRowsText =
    "512, with --rounding nearest 128; fewer of long rows, of 65,536 tokens in all";
inline constexpr const char* kStudyCalibrationRowsText = "512; fewer of long rows, of 65,536 tokens in all";

/// Model and machine flags that train, eval, predict and merge have in common.
struct ModelFlags {
  std::string base, prompt_template, system, tokenizer;
  model::BaseFormat base_format = model::BaseFormat::Auto;
  train::ComputeChoice compute = train::ComputeChoice::Auto;
  std::string device = "auto";
  int64_t threads = 0;

  template <class V>
  static void fields(V&& field) {
    using namespace config;
    using T = ModelFlags;
    field("base", &T::base, Metavar{"MODEL"}, DefaultText{"what the adapter names"}, "Base of an adapter");
    field("template", &T::prompt_template, Metavar{"NAME|FILE"}, Synonyms{"chat-template"},
          DefaultText{"the model's own"}, "Chat template: llama3, chatml, plain, or a JSON file");
    field("system", &T::system, Metavar{"TEXT|FILE"}, "System turn for requests that bring none");
    field("tokenizer", &T::tokenizer, Metavar{"PATH"}, DefaultText{"the base's"}, "Vocabulary file or directory");
    field("base_format", &T::base_format, Choice<model::BaseFormat>{{"auto", model::BaseFormat::Auto}},
          train::base_formats(), Synonyms{"load-in-4bit"},
          "How the base's matrices are held; auto is stored, for an adapter that was trained on NF4 NF4's values, but "
          "GGUF blocks as numbers on a GPU, which decodes faster in more memory");
    field("compute", &T::compute, train::compute_choices(),
          "Type of the products; auto takes bf16 where this machine is fast in it, f16 on GPUs that have no bf16");
    field("device", &T::device, OneOf{"auto", "cpu", "cuda"}, "Where to run");
    field("threads", &T::threads, AtLeast{0}, "CPU threads (0: all)");
  }
};

/// What a GPU had no room for, in libtorch's words, without what is for its developers.
std::string out_of_memory_text(const c10::OutOfMemoryError& error);

/// "auto" takes a GPU where one can be used: sm_75 and newer. @throws Error{Device} saying why cuda cannot be used.
at::Device choose_device(const std::string& name);
/// Auto: bf16 on GPUs from sm_80 on and on CPUs with bf16 dot products, f16 on older GPUs, f32 on other CPUs. @throws
/// Error{Usage} for f16 on a CPU, Error{Device} for bf16 on an older GPU.
ops::Compute choose_compute(train::ComputeChoice choice, at::Device device);
/// Sets the threads of both pools; 0: all processors of this process. Returns the number.
int choose_threads(int64_t threads);

model::OpenOptions open_options(const ModelFlags& flags);
/// How a training run holds its base in memory and computes with it.
model::LoadOptions training_load_options(const formats::Checkpoint& base, model::BaseFormat format,
                                         ops::Compute compute, at::Device device);

/// Quotes an argument for a POSIX shell if it needs it.
std::string shell_quoted(const std::string& argument);

}  // namespace slmi::cli
