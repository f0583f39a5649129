// slmi predict: requests in, one JSON line an answer out. No inference logic here.
#include <chrono>
#include <cmath>
#include <iostream>

#include "commands.h"
#include "slmi/base/error.h"
#include "slmi/config/command_line.h"
#include "slmi/data/encoded_dataset.h"
#include "slmi/decode/generator.h"

namespace slmi::cli {
namespace {

struct PredictConfig {
  std::string model_path;
  std::vector<std::string> text;
  std::string text_field = "text";
  std::vector<std::string> catalog;
  int64_t max_new_tokens = 128;
  bool answer_form = true;
  ModelFlags model;

  template <class V>
  static void fields(V&& field) {
    using namespace config;
    using T = PredictConfig;
    field("model", &T::model_path, Required{}, Metavar{"MODEL"}, "A Hugging Face directory, GGUF file, adapter or run");
    field("text", &T::text, Positional{}, "The request; without it, lines or JSON rows are read from standard input");
    field("text_field", &T::text_field, "Name of the request's field in JSON rows");
    field("catalog", &T::catalog, CommaSeparated{}, "Product names to show the model with every request");
    field("max_new_tokens", &T::max_new_tokens, AtLeast{1}, "Longest answer");
    field("answer_form", &T::answer_form, kAnswerFormHelp);
    field(Inline{}, &T::model);
  }
};

/// A request and what it brings along.
struct Request {
  Json id;
  std::string text;
  std::vector<std::string> catalog;
};

/// A line is a JSON object with a text, or the text itself.
Request parse_request(const std::string& line, int64_t number, const PredictConfig& config) {
  Request request{nullptr, line, config.catalog};
  if (!line.starts_with('{')) return request;
  const std::string source = fmt::format("standard input:{}", number);
  const Json row = parse_json(line, source);
  require(row.contains(config.text_field) && row[config.text_field].is_string(), ErrorKind::Input,
          "{}: no text in '{}'; name the field with --text-field", source, config.text_field);
  request.text = row[config.text_field];
  if (row.contains("id")) request.id = row["id"];
  if (row.contains("catalog")) {
    require(row["catalog"].is_array(), ErrorKind::Input, "{}: 'catalog' should be an array of product names", source);
    request.catalog.clear();
    for (const auto& name : row["catalog"]) {
      require(name.is_string(), ErrorKind::Input, "{}: 'catalog' should hold product names as text", source);
      request.catalog.push_back(name);
    }
  }
  return request;
}

class Predictor {
 public:
  explicit Predictor(const PredictConfig& config)
      : opened_(model::open_model(config.model_path, open_options(config.model))),
        generator_(opened_.llama, decode::PrefixCache::On),
        held_(config.answer_form && opened_.files.answer_form) {
    options_.max_new_tokens = config.max_new_tokens;
    options_.stop_ids = model::stop_ids(opened_.files);
    options_.vocabulary = opened_.files.prompts->tokenizer_ptr();
  }
  const model::ModelFiles& files() const { return opened_.files; }

  Json answer(const Request& request) {
    const auto start = std::chrono::steady_clock::now();
    const auto& prompts = *opened_.files.prompts;
    std::vector<text::Message> messages;
    const std::string system =
        request.catalog.empty() ? std::string() : data::instruction_for(request.catalog, prompts.system_text());
    if (!system.empty()) messages.push_back({"system", system});
    messages.push_back({"user", request.text});
    const text::Encoded encoded = prompts.build(messages);
    const int64_t shared = encoded.prefix_len >= data::kMinSharedPrefix ? encoded.prefix_len : 0;
    decode::Prompt prompt{encoded.ids, shared, nullptr};
    if (held_)
      prompt.check =
          std::make_shared<const data::AnswerCheck>(opened_.files.answer_form, request.text, request.catalog);
    const decode::Answer answer = generator_.generate(std::span(&prompt, 1), options_).front();
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    Json out;
    if (!request.id.is_null()) out["id"] = request.id;
    const std::string text = prompts.decode_answer(answer.ids);
    out["text"] = request.text;
    out["answer"] = text;
    out["fields"] = parsed(text);
    out["log_probability"] = answer.log_probability;
    out["complete"] = answer.stopped;
    out["held"] = answer.held;
    out["ms"] = std::round(ms * 100) / 100;
    return out;
  }

 private:
  /// The answer as JSON if it is an object or array, else null.
  static Json parsed(const std::string& text) {
    Json value = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    return value.is_structured() ? value : Json(nullptr);
  }
  model::OpenedModel opened_;
  decode::Generator generator_;
  decode::GenerateOptions options_;
  bool held_;
};

void run_predict(const PredictConfig& config, Runtime& rt) {
  choose_threads(config.model.threads);
  Predictor predictor(config);
  if (!predictor.files().note.empty()) rt.err << "note: " << predictor.files().note << "\n";
  const auto print = [&](const Request& request) { rt.out << predictor.answer(request).dump() << "\n" << std::flush; };
  for (const auto& text : config.text) print({nullptr, text, config.catalog});
  if (!config.text.empty()) return;
  std::string line;
  for (int64_t number = 1; rt.signal == 0 && std::getline(std::cin, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty()) continue;
    uint64_t bad = 0;
    require(is_valid_utf8(line, &bad), ErrorKind::Input, "standard input:{}: byte {} is not UTF-8", number, bad + 1);
    print(parse_request(line, number, config));
  }
}

}  // namespace

void add_predict(CLI::App& app, Runtime& rt) {
  CLI::App& command = config::add_command(app, "predict", "Answer requests, one JSON line each",
                                          "slmi predict --model run \"two oat milks please\"");
  auto binding = config::bind<PredictConfig>(command);
  config::set_action(command, [binding, &rt] { run_predict(binding->resolve(), rt); });
}

}  // namespace slmi::cli
