// JSON of a model's run; see the header.
#include "slmi/eval/model_run.h"

#include "json_fields.h"

namespace slmi::eval {

template <class V>
void describe(V& v, RowAnswer& x) {
  v("id", x.id);
  v("answer", x.answer);
  v("log_probability", x.log_probability);
  v("complete", x.complete);
}

template <class V>
void describe(V& v, RequestTimes& x) {
  v("ttft", x.ttft);
  v("e2e", x.e2e);
  v("tpot", x.tpot);
}

template <class V>
void describe(V& v, SpeedRun& x) {
  v("load_s", x.load_s);
  v("first_request_ms", x.first_request_ms);
  v("requests", x.requests);
  v("prompt_tokens", x.prompt_tokens);
  v("answer_tokens", x.answer_tokens);
  v("prefill_tokens_per_s", x.prefill_tokens_per_s);
  v("decode_tokens_per_s", x.decode_tokens_per_s);
  v("requests_per_s", x.requests_per_s);
  v("accuracy_s", x.accuracy_s);
  v("accuracy_batch", x.accuracy_batch);
  v("accuracy_rows", x.accuracy_rows);
  v("accuracy_energy_j", x.accuracy_energy_j);
  v("energy_sources", x.energy_sources);
}

template <class V>
void describe(V& v, ModelFacts& x) {
  v("path", x.path);
  v("kind", x.kind);
  v("base", x.base);
  v("base_fingerprint", x.base_fingerprint);
  v("base_sha256", x.base_sha256);
  v("weights", x.weights);
  v("base_format", x.base_format);
  v("compute", x.compute);
  v("device", x.device);
  v("engine", x.engine);
  v("template_name", x.template_name);
  v("template_sha256", x.template_sha256);
  v("tokenizer_sha256", x.tokenizer_sha256);
  v("system_text", x.system_text);
  v("max_new_tokens", x.max_new_tokens);
  v("prefix_cache", x.prefix_cache);
  v("answer_form", x.answer_form);
  v("shared_prefixes", x.shared_prefixes);
  v("threads", x.threads);
  v("simd", x.simd);
  v("gpu", x.gpu);
}

template <class V>
void describe(V& v, ModelRun& x) {
  v("name", x.name);
  v("facts", x.facts);
  v("answers", x.answers);
  v("held", x.held);
  v("too_long", x.too_long);
  v("loss", x.loss);
  v("speed", x.speed);
  v("rss_anon_bytes", x.rss_anon_bytes);
  v("rss_file_bytes", x.rss_file_bytes);
  v("rss_peak_bytes", x.rss_peak_bytes);
  v("vram_allocator_bytes", x.vram_allocator_bytes);
  v("vram_device_bytes", x.vram_device_bytes);
  v("notes", x.notes);
}

Json to_json(const ModelRun& run) {
  FieldWriter writer;
  describe(writer, const_cast<ModelRun&>(run));  // a writer only reads
  return writer.take();
}

ModelRun model_run_from_json(const Json& json, const std::string& source) {
  ModelRun run;
  FieldReader reader(json, source);
  describe(reader, run);
  return run;
}

}  // namespace slmi::eval
