// JSON of a report, both ways from one list of names a struct, so that what is written can be read.
#include <cmath>
#include <limits>

#include "slmi/base/error.h"
#include "slmi/report/study.h"
#include "slmi/report/writers.h"

namespace slmi::report {
namespace {

template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <class T>
struct IsNamed : std::false_type {};
template <class T>
struct IsNamed<Named<T>> : std::true_type {};
template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};

// --- Names: describe(visitor, struct). `scores` are plain numbers whose intervals stand in "intervals". ---

template <class V>
void describe(V& v, Interval& x) {
  v("value", x.value);
  v("low", x.low);
  v("high", x.high);
}

template <class V>
void describe(V& v, Quantiles& x) {
  v("p50", x.p50);
  v("p90", x.p90);
  v("p95", x.p95);
  v("p99", x.p99);
}

template <class V>
void describe(V& v, Latency& x) {
  v("ttft", x.ttft);
  v("tpot", x.tpot);
  v("e2e", x.e2e);
}

template <class V>
void describe(V& v, IntentScore& x) {
  v("n", x.n);
  v("precision", x.precision);
  v("recall", x.recall);
  v("f1", x.f1);
  v("exact_match", x.exact_match);
}

template <class V>
void describe(V& v, Part& x) {
  v("n", x.n);
  v("exact_match", x.exact_match.value);
  v("low", x.exact_match.low);
  v("high", x.exact_match.high);
}

template <class V>
void describe(V& v, Confusion& x) {
  v("expected", x.expected);
  v("answered", x.answered);
  v("counts", x.counts);
}

template <class V>
void describe(V& v, Example& x) {
  v("id", x.id);
  v("text", x.text);
  v("expected", x.expected);
  v("answer", x.answer);
  v("reference_answer", x.reference_answer);
  v("note", x.note);
}

template <class V>
void describe(V& v, Against& x) {
  v("reference", x.reference);
  v("n", x.n);
  v("lost", x.lost);
  v("gained", x.gained);
  v("p", x.p);
  v("smallest_drop", x.smallest_drop);
  v("flipped", x.flipped);
}

template <class V>
void describe(V& v, ModelReport& x) {
  v("name", x.name);
  v("model", x.model);
  v("base", x.base);
  v("base_sha256", x.base_sha256);
  v("weights", x.weights);
  v("base_format", x.base_format);
  v("compute", x.compute);
  v("engine", x.engine);
  v("template", x.template_name);
  v("template_sha256", x.template_sha256);
  v("tokenizer_sha256", x.tokenizer_sha256);
  v("prefix_cache", x.prefix_cache);
  v("n", x.n);
  v("exact_match", x.exact_match);
  v.score("string_match", x.string_match);
  v.score("order_free_match", x.order_free_match);
  v.score("valid_json", x.valid_json);
  v.score("intent_accuracy", x.intent_accuracy);
  v.score("slot_f1", x.slot_f1);
  v.score("macro_f1", x.macro_f1);
  v("fields", x.fields);
  v("per_intent", x.per_intent);
  v("out_of_scope", x.out_of_scope);
  v("out_of_scope_auroc", x.out_of_scope_auroc);
  v("slices", x.slices);
  v("languages", x.languages);
  v("confusion", x.confusion);
  v("against", x.against);
  v("latency_ms", x.latency_ms);
  v("prefill_tokens_per_s", x.prefill_tokens_per_s);
  v("decode_tokens_per_s", x.decode_tokens_per_s);
  v("requests_per_s", x.requests_per_s);
  v("joules_per_request", x.joules_per_request);
  v("load_s", x.load_s);
  v("first_request_ms", x.first_request_ms);
  v("rss_anon_bytes", x.rss_anon_bytes);
  v("rss_file_bytes", x.rss_file_bytes);
  v("rss_peak_bytes", x.rss_peak_bytes);
  v("vram_allocator_bytes", x.vram_allocator_bytes);
  v("vram_device_bytes", x.vram_device_bytes);
  v("e2e_samples_ms", x.e2e_samples_ms);
  v("errors", x.errors);
  v("notes", x.notes);
}

template <class V>
void describe(V& v, Machine& x) {
  v("cpu", x.cpu);
  v("cores", x.cores);
  v("memory_bytes", x.memory_bytes);
  v("os", x.os);
  v("gpu", x.gpu);
}

template <class V>
void describe(V& v, Build& x) {
  v("version", x.version);
  v("commit", x.commit);
  v("libtorch", x.libtorch);
  v("cuda", x.cuda);
  v("simd", x.simd);
  v("compiler", x.compiler);
}

template <class V>
void describe(V& v, DataFile& x) {
  v("path", x.path);
  v("use", x.use);
  v("rows", x.rows);
  v("sha256", x.sha256);
}

template <class V>
void describe(V& v, TrainingCurve& x) {
  v("name", x.name);
  v("step", x.step);
  v("loss", x.loss);
  v("val_step", x.val_step);
  v("val_loss", x.val_loss);
  v("match_step", x.match_step);
  v("val_exact_match", x.val_exact_match);
}

template <class V>
void describe(V& v, EvalReport& x) {
  v("title", x.title);
  v("command", x.command);
  v("date", x.date);
  v("machine", x.machine);
  v("build", x.build);
  v("seed", x.seed);
  v("threads", x.threads);
  v("engine", x.engine);
  v("device", x.device);
  v("data", x.data);
  v("models", x.models);
  v("training", x.training);
  v("notes", x.notes);
}

template <class V>
void describe(V& v, RoofReport& x) {
  v("ttft_ms", x.ttft);
  v("tpot_ms", x.tpot);
  v("e2e_ms", x.e2e);
  v("prefill_bound", x.prefill_bound);
  v("decode_bound", x.decode_bound);
}

template <class V>
void describe(V& v, StudyCell& x) {
  v("model", x.model);
  v("format", x.format);
  v("device", x.device);
  v("threads", x.threads);
  v("problem", x.problem);
  v("file_bytes", x.file_bytes);
  v("prompt_tokens", x.prompt_tokens);
  v("answer_tokens", x.answer_tokens);
  v("cost_per_million", x.cost_per_million);
  v("roof", x.roof);
  v("run", x.run);
}

template <class V>
void describe(V& v, StudyPrediction& x) {
  v("model", x.model);
  v("format", x.format);
  v("hardware", x.hardware);
  v("problem", x.problem);
  v("ttft_ms", x.ttft);
  v("tpot_ms", x.tpot);
  v("e2e_ms", x.e2e);
}

template <class V>
void describe(V& v, CeilingReport& x) {
  v("device", x.device);
  v("threads", x.threads);
  v("read_gb_per_s", x.read_gb_per_s);
  v("f32_gflops", x.f32_gflops);
  v("bf16_gflops", x.bf16_gflops);
  v("f16_gflops", x.f16_gflops);
}

template <class V>
void describe(V& v, StudyReport& x) {
  v("title", x.title);
  v("command", x.command);
  v("date", x.date);
  v("machine", x.machine);
  v("build", x.build);
  v("data", x.data);
  v("price_per_hour", x.price_per_hour);
  v("ceilings", x.ceilings);
  v("cells", x.cells);
  v("predictions", x.predictions);
  v("notes", x.notes);
}

// --- Writing ---

class Writer {
 public:
  Json out = Json::object();

  template <class T>
  void operator()(const char* name, T& value) {
    out[name] = write(value);
  }
  void score(const char* name, std::optional<Interval>& value) {
    out[name] = value ? write(value->value) : Json(nullptr);
    if (value && (value->low || value->high)) {
      out["intervals"][name] = Json{{"low", write(value->low)}, {"high", write(value->high)}};
    }
  }

  template <class T>
  static Json write(T& value) {
    using Value = std::remove_const_t<T>;
    if constexpr (std::is_same_v<Value, double>) {
      return std::isfinite(value) ? Json(value) : Json(nullptr);  // JSON has no NaN
    } else if constexpr (std::is_arithmetic_v<Value> || std::is_same_v<Value, std::string>) {
      return value;
    } else if constexpr (std::is_same_v<Value, Weights>) {
      return value == Weights::Real ? "real" : value == Weights::Random ? "random" : "none";
    } else if constexpr (IsOptional<Value>::value) {
      return value ? write(*value) : Json(nullptr);
    } else if constexpr (IsNamed<Value>::value) {
      Json out = Json::object();
      for (auto& [name, item] : value) out[name] = write(item);
      return out;
    } else if constexpr (IsVector<Value>::value) {
      Json out = Json::array();
      for (auto& item : value) out.push_back(write(item));
      return out;
    } else {
      Writer writer;
      describe(writer, value);
      return writer.out;
    }
  }
};

// --- Reading ---

class Reader {
 public:
  Reader(const Json& in, const std::string& path) : in_(in), path_(path) {
    require(in.is_object(), ErrorKind::Input, "{}: expected an object", path);
  }

  template <class T>
  void operator()(const char* name, T& value) {
    read(at(name), value, path_ + "." + name);
  }
  void score(const char* name, std::optional<Interval>& value) {
    std::optional<double> plain;
    (*this)(name, plain);
    value.reset();
    if (!plain) return;
    value = Interval{*plain, {}, {}};
    if (!in_.contains("intervals") || !in_["intervals"].contains(name)) return;
    const auto& bounds = in_["intervals"][name];
    const auto path = path_ + ".intervals." + name;
    require(bounds.is_object() && bounds.contains("low") && bounds.contains("high"), ErrorKind::Input,
            "{}: expected low and high", path);
    read(bounds["low"], value->low, path + ".low");
    read(bounds["high"], value->high, path + ".high");
  }

 private:
  const Json& at(const char* name) const {
    require(in_.contains(name), ErrorKind::Input, "{}: key {} is missing", path_, name);
    return in_[name];
  }

  template <class T>
  static void read(const Json& json, T& value, const std::string& path) {
    const auto need = [&](bool good, const char* what) {
      require(good, ErrorKind::Input, "{}: expected {}", path, what);
    };
    if constexpr (std::is_same_v<T, bool>) {
      need(json.is_boolean(), "true or false");
      value = json.get<bool>();
    } else if constexpr (std::is_same_v<T, double>) {
      need(json.is_number() || json.is_null(), "a number");
      value = json.is_null() ? std::numeric_limits<double>::quiet_NaN() : json.get<double>();
    } else if constexpr (std::is_integral_v<T>) {
      need(json.is_number_integer(), "an integer");
      value = json.get<T>();
    } else if constexpr (std::is_same_v<T, std::string>) {
      need(json.is_string(), "text");
      value = json.get<std::string>();
    } else if constexpr (std::is_same_v<T, Weights>) {
      need(json == "real" || json == "random" || json == "none", "real, random or none");
      value = json == "real" ? Weights::Real : json == "random" ? Weights::Random : Weights::None;
    } else if constexpr (IsOptional<T>::value) {
      value.reset();
      if (!json.is_null()) read(json, value.emplace(), path);
    } else if constexpr (IsNamed<T>::value) {
      need(json.is_object(), "an object");
      value.clear();
      for (const auto& [name, item] : json.items()) {
        value.emplace_back(name, typename T::value_type::second_type{});
        read(item, value.back().second, path + "." + name);
      }
    } else if constexpr (IsVector<T>::value) {
      need(json.is_array(), "a list");
      value.clear();
      for (const auto& item : json) {
        const auto place = fmt::format("{}[{}]", path, value.size());
        read(item, value.emplace_back(), place);
      }
    } else {
      Reader reader(json, path);
      describe(reader, value);
    }
  }

  const Json& in_;
  const std::string path_;
};

/// describe() takes structs that it may fill; writing only reads them.
template <class T>
Json written(const T& value) {
  return Writer::write(const_cast<T&>(value));
}

template <class T>
T read_from(const Json& json, const std::string& source) {
  T out;
  Reader reader(json, source);
  describe(reader, out);
  return out;
}

}  // namespace

Json to_json(const EvalReport& report) {
  return written(report);
}

Json to_json(const ModelReport& model) {
  return written(model);
}

Json to_json(const StudyReport& report) {
  return written(report);
}

EvalReport report_from_json(const Json& json, const std::string& source) {
  return read_from<EvalReport>(json, source);
}

ModelReport model_from_json(const Json& json, const std::string& source) {
  return read_from<ModelReport>(json, source);
}

}  // namespace slmi::report
