// Reading again what was exported; see gguf_export.h.
#include <algorithm>
#include <cmath>

#include "gguf_rows.h"
#include "slmi/base/error.h"
#include "slmi/model/gguf_export.h"
#include "slmi/text/gguf_tokenizer.h"

namespace slmi::model {
namespace {

void check_prompts(const ModelFiles& written, const ModelFiles& source) {
  const auto& got = *written.prompts;
  const auto& want = *source.prompts;
  const std::string path = written.path.string();
  const auto compare = [&](const char* what, const std::string& g, const std::string& w) {
    require(g == w, ErrorKind::Internal, "{}: read again, its {} is {:.200}, the source's {:.200}", path, what, g, w);
  };
  compare("tokenizer", got.tokenizer().hash(), want.tokenizer().hash());
  compare("template", got.chat_template().text(), want.chat_template().text());
  compare("chat_template", std::string(written.checkpoint->gguf()->value(text::kGgufTemplateKey).as_string()),
          want.chat_template().jinja());
  compare("system turn", got.system_text(), want.system_text());
  compare("stop ids", fmt::format("{}", fmt::join(got.stop_ids(), " ")),
          fmt::format("{}", fmt::join(want.stop_ids(), " ")));
}

void check_config(const ModelFiles& written, const ModelFiles& source) {
  const auto& got = written.checkpoint->config();
  const auto& want = source.checkpoint->config();
  const auto key = [&](const char* name, auto g, auto w) {
    require(g == w, ErrorKind::Internal, "{}: read again, its {} is {}, the source's {}", written.path.string(), name,
            g, w);
  };
  key("context length", got.max_position_embeddings, want.max_position_embeddings);
  key("rope base", static_cast<float>(got.rope_theta), static_cast<float>(want.rope_theta));
  key("norm epsilon", static_cast<float>(got.rms_norm_eps), static_cast<float>(want.rms_norm_eps));
  key("head count", got.num_heads, want.num_heads);
  key("tied head", got.tie_word_embeddings, want.tie_word_embeddings);
  const auto g = got.rope_inv_freq(), w = want.rope_inv_freq();
  constexpr float kTolerance = 1.2e-7F;  // one unit in the last place, where no divisor gives the very frequency
  for (size_t i = 0; i < w.size(); ++i)
    require(std::abs(g[i] - w[i]) <= kTolerance * w[i], ErrorKind::Internal,
            "{}: read again, its rotary frequency {} is {}, the source's {}", written.path.string(), i, g[i], w[i]);
}

/// Sums over one tensor.
class ErrorSums {
 public:
  void add(const at::Tensor& want, const at::Tensor& got) {
    const at::Tensor difference = want - got;
    squared_error_ += difference.square().sum(at::kDouble).item<double>();
    squared_ += want.square().sum(at::kDouble).item<double>();
    largest_ = std::max(largest_, difference.abs().max().item<double>());
  }
  double relative_rmse() const { return squared_ > 0 ? std::sqrt(squared_error_ / squared_) : 0.0; }
  double largest() const { return largest_; }
  bool finite() const { return std::isfinite(squared_error_); }

 private:
  double squared_error_ = 0.0, squared_ = 0.0, largest_ = 0.0;
};

}  // namespace

std::vector<TensorError> verify_gguf(const std::filesystem::path& path, const ModelFiles& files,
                                     const MergedWeights& weights, const WeightProgress& progress) {
  const ModelFiles written = open_files(path, {});  // checks that every tensor is there and of its shape
  check_prompts(written, files);
  check_config(written, files);
  const MergedWeights read(written, MergeOnto::Auto);
  int64_t done = 0, total = 0;
  for (const auto& tensor : formats::expected_tensors(written.checkpoint->config()))
    total += static_cast<int64_t>(formats::num_elements(tensor.shape));
  std::vector<TensorError> out;
  for (const auto& name : written.checkpoint->names()) {
    const MergedTensor want = weights.tensor(name), got = read.tensor(name);
    ErrorSums sums;
    for_each_rows(want.n(), want.k(), 1, [&](int64_t begin, int64_t end) {
      sums.add(want.rows(begin, end), got.rows(begin, end));
      done += (end - begin) * want.k();
      if (progress) progress(done, total);
    });
    require(sums.finite(), ErrorKind::Internal, "{}: tensor '{}' as {}: its error is not finite", path.string(), name,
            quant::name(got.stored().format));
    out.push_back({formats::gguf_name_of_hf(name), std::string(quant::name(got.stored().format)), got.stored().shape,
                   got.stored().bytes.size(), sums.relative_rmse(), sums.largest()});
  }
  return out;
}

}  // namespace slmi::model
