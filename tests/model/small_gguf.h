// A random model of sizes that every block format can hold, as a GGUF file: for tests of the base's formats.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <string>

#include "../formats/tiny_model.h"

namespace slmi::model::testing {

class SmallGguf {
 public:
  explicit SmallGguf(quant::WeightFormat format)
      : path_((std::filesystem::temp_directory_path() /
               ("slmi-small-" + std::string(quant::name(format)) + "-" + std::to_string(::getpid()) + ".gguf"))
                  .string()) {
    constexpr double kSpread = 0.1;  // attention then looks at many tokens
    formats::TinyModel(config(), 1, kSpread).write_gguf(path_, {}, format);
  }
  ~SmallGguf() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  SmallGguf(const SmallGguf&) = delete;
  SmallGguf& operator=(const SmallGguf&) = delete;
  const std::string& path() const { return path_; }
  static int64_t vocab_size() { return config().vocab_size; }

 private:
  static formats::LlamaConfig config() {
    auto c = formats::tiny_config();
    c.hidden_size = 256;
    c.intermediate_size = 512;
    c.head_dim = 64;
    c.vocab_size = 96;
    c.tie_word_embeddings = true;
    return c;
  }

  std::string path_;
};

}  // namespace slmi::model::testing
