// Measuring one model: what is timed, in which order, and on which rows; see the header.
#include "slmi/eval/measure.h"

#include <ATen/Parallel.h>
#include <algorithm>
#include <numeric>
#include <unordered_set>

#include "slmi/base/clock.h"
#include "slmi/base/error.h"
#include "slmi/base/machine.h"
#include "slmi/base/mapped_file.h"
#include "slmi/base/sha256.h"
#include "slmi/data/encoded_dataset.h"
#include "slmi/data/packing.h"
#include "slmi/decode/generator.h"
#include "slmi/eval/energy.h"
#include "slmi/eval/memory.h"
#include "slmi/kernels/cpu/simd.h"
#include "slmi/model/batch.h"

namespace slmi::eval {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPrefillProbes = 8;                    // whole prompts timed for the prefill rate
constexpr int64_t kMinBatchRows = 32;                    // rows timed for requests a second, if there is time
constexpr int64_t kLossTokens = 2048;                    // of a batch whose loss is taken
constexpr uint64_t kMaxHashedBytes = uint64_t{4} << 30;  // larger weight files are not hashed at each evaluation

/// SHA-256 of the base's weights where they are one file of bearable size.
std::string weights_hash(const formats::Checkpoint& checkpoint) {
  const bool gguf = checkpoint.kind() == formats::CheckpointKind::Gguf;
  const fs::path file = gguf ? checkpoint.path() : checkpoint.path() / "model.safetensors";
  std::error_code error;
  if (!fs::is_regular_file(file, error) || checkpoint.file_bytes() > kMaxHashedBytes) return {};
  Sha256 hash;
  hash.update(MappedFile::open(file).bytes());
  return hash.hex();
}

std::string format_name(const formats::Checkpoint& checkpoint, model::BaseFormat format) {
  switch (format) {
    case model::BaseFormat::Auto:
    case model::BaseFormat::Stored:
      return checkpoint.formats_text();
    case model::BaseFormat::NF4:
      return "NF4";
    case model::BaseFormat::BF16:
      return "BF16";
    case model::BaseFormat::F16:
      return "F16";
    case model::BaseFormat::F32:
      return "F32";
  }
  return "?";
}

/// A model at work on its rows.
class Measurement {
 public:
  Measurement(const std::string& name, const fs::path& path, const RowSource& source, const model::OpenOptions& open,
              const MeasureOptions& options, const MeasureHooks& hooks)
      : options_(options), hooks_(hooks) {
    run_.name = name;
    progress("load", 0, 1);
    const double start = now_s();
    opened_ = model::open_model(path, open);
    run_.speed.load_s = now_s() - start;
    set_ = read_source(source, opened_.files.prompts->system_text());
    generator_ = std::make_unique<decode::Generator>(
        opened_.llama, options.prefix_cache ? decode::PrefixCache::On : decode::PrefixCache::Off);
    choose_rows();
    note_facts(open);
  }

  ModelRun run() {
    if (options_.latency_rows > 0) {
      first_request();
      prefill_rate();
      latency();
    }
    note_memory();
    if (options_.latency_rows > 0) throughput();
    if (options_.loss) mean_loss();
    if (options_.answers) answer_all();
    if (options_.answers && options_.share == 0) run_.facts.base_sha256 = weights_hash(*opened_.files.checkpoint);
    return std::move(run_);
  }

 private:
  struct Result {
    std::string text;
    decode::Answer answer;
    double built_s = 0.0;  // time that making the prompts took
  };

  void progress(const std::string& stage, int64_t done, int64_t total) const {
    const int signal = hooks_.signal ? hooks_.signal->load() : 0;
    if (signal != 0)
      throw Error(signal == 15 ? ErrorKind::Terminated : ErrorKind::Interrupted,
                  "stopped while measuring; nothing was written");
    if (hooks_.progress) hooks_.progress(stage, done, total);
  }

  /// Encodes the rows, fixes the longest answer, and leaves out what does not fit.
  void choose_rows() {
    const int64_t positions = opened_.llama->config().max_position_embeddings;
    rows_ = data::EncodedDataset::encode(set_, *opened_.files.prompts, {positions, data::OverLong::Skip});
    int64_t longest = 1;
    for (int64_t i = 0; i < rows_.size(); ++i) longest = std::max(longest, rows_.num_targets(i));
    generate_.max_new_tokens = std::min(longest + kAnswerSlack, options_.max_new_tokens);
    generate_.stop_ids = model::stop_ids(opened_.files);
    generate_.vocabulary = opened_.files.prompts->tokenizer_ptr();
    for (int64_t i = 0; i < rows_.size(); ++i)
      if (rows_.target_begin(i) + generate_.max_new_tokens <= positions) fitting_.push_back(i);
    run_.too_long = static_cast<int64_t>(set_.rows.size()) - static_cast<int64_t>(fitting_.size());
    require(!fitting_.empty(), ErrorKind::Usage,
            "no row fits the model's {} positions beside {} new tokens; lower --max-new-tokens", positions,
            generate_.max_new_tokens);
    if (run_.too_long > 0)
      run_.notes.push_back(
          fmt::format("{} rows do not fit the model's {} positions; they count as wrong", run_.too_long, positions));
    const auto n = static_cast<int64_t>(fitting_.size());
    const int64_t wanted = std::min(options_.latency_rows, n);
    for (int64_t i = 0; i < wanted; ++i) timed_.push_back(fitting_[static_cast<size_t>(i * n / wanted)]);
  }

  void note_facts(const model::OpenOptions& open) {
    const auto& files = opened_.files;
    const auto prompts = files.prompts->describe();
    ModelFacts& f = run_.facts;
    f.path = files.path.string();
    f.kind = model::path_kind_name(files.kind);
    f.base = files.base_path.string();
    f.base_fingerprint = files.base.fingerprint;
    f.weights = formats::weights_origin(*files.checkpoint, files.provenance);
    f.base_format = format_name(*files.checkpoint, open.load.base_format);
    f.compute = ops::name(open.load.policy.compute);
    f.device = open.load.device.str();
    f.engine = open.load.device.is_cpu() ? "slmi cpu" : "slmi cuda";
    f.template_name = prompts.template_name;
    f.template_sha256 = prompts.template_hash;
    f.tokenizer_sha256 = prompts.tokenizer_hash;
    f.system_text = prompts.system_text;
    f.max_new_tokens = generate_.max_new_tokens;
    f.prefix_cache = options_.prefix_cache;
    if (files.answer_form && options_.answer_form) f.answer_form = files.answer_form->describe();
    f.shared_prefixes = rows_.num_prefixes();
    f.threads = at::get_num_threads();
    f.simd = kernels::cpu::name(kernels::cpu::simd());
    if (!open.load.device.is_cpu()) f.gpu = gpu_name();
    if (!files.note.empty()) run_.notes.push_back(files.note);
  }

  const data::Row& row(int64_t i) const { return set_.rows[static_cast<size_t>(rows_.source_row(i))]; }

  std::shared_ptr<const data::AnswerCheck> check_of(const data::Row& row) const {
    const auto& form = opened_.files.answer_form;
    if (!form || !options_.answer_form) return nullptr;
    return std::make_shared<const data::AnswerCheck>(form, row.text, row.catalog);
  }

  decode::Prompt whole_prompt(int64_t i) const {
    const auto ids = rows_.ids(i).first(static_cast<size_t>(rows_.target_begin(i)));
    return {{ids.begin(), ids.end()}, 0, nullptr};
  }

  /// From the rows' text to the answers' text: what a caller would wait for.
  std::vector<Result> ask(std::span<const int64_t> rows, int64_t max_new_tokens) {
    const double start = now_s();
    std::vector<decode::Prompt> prompts;
    for (const int64_t i : rows)
      prompts.push_back({opened_.files.prompts->build(row(i).messages).ids, rows_.prefix_len(i), check_of(row(i))});
    const double built = now_s() - start;
    decode::GenerateOptions generate = generate_;
    generate.max_new_tokens = max_new_tokens;
    auto answers = generator_->generate(prompts, generate);
    std::vector<Result> out;
    for (auto& answer : answers) {
      std::string text = opened_.files.prompts->decode_answer(answer.ids);
      out.push_back({std::move(text), std::move(answer), built});
    }
    return out;
  }
  Result ask_one(int64_t row) { return std::move(ask(std::span(&row, 1), generate_.max_new_tokens).front()); }

  int64_t own_tokens(int64_t i) const {
    return rows_.target_begin(i) - (options_.prefix_cache ? rows_.prefix_len(i) : 0);
  }

  void first_request() {
    progress("first request", 0, 1);
    const double start = now_s();
    ask_one(timed_.front());
    run_.speed.first_request_ms = 1e3 * (now_s() - start);
  }

  /// Whole prompts, one token each; the first is the warm-up.
  void prefill_rate() {
    const auto n = std::min<int64_t>(kPrefillProbes, static_cast<int64_t>(timed_.size()));
    decode::GenerateOptions one = generate_;
    one.max_new_tokens = 1;
    const auto probe = [&](int64_t row) {
      const decode::Prompt prompt = whole_prompt(row);
      generator_->generate(std::span(&prompt, 1), one);
    };
    probe(timed_.front());
    const auto before = generator_->counters();
    for (int64_t i = 0; i < n; ++i) {
      progress("prefill", i, n);
      probe(timed_[static_cast<size_t>(i)]);
    }
    const auto& after = generator_->counters();
    if (after.prefill_s > before.prefill_s)
      run_.speed.prefill_tokens_per_s =
          static_cast<double>(after.prefill_tokens - before.prefill_tokens) / (after.prefill_s - before.prefill_s);
  }

  /// Puts every shared instruction of the timed rows into the cache, and leaves the cache large enough for any timed
  /// request: growing later would empty it.
  void warm_up() {
    std::vector<int64_t> first_of_prefix{timed_.front()};
    std::unordered_set<int32_t> seen{rows_.prefix_id(timed_.front())};
    int64_t longest = 0;
    for (const int64_t i : timed_) {
      longest = std::max(longest, own_tokens(i));
      if (options_.prefix_cache && rows_.prefix_id(i) >= 0 && seen.insert(rows_.prefix_id(i)).second)
        first_of_prefix.push_back(i);
    }
    const auto k = static_cast<int64_t>(first_of_prefix.size());
    const int64_t needed = longest + generate_.max_new_tokens;
    ask(first_of_prefix, std::clamp<int64_t>((needed + k - 1) / k, 1, generate_.max_new_tokens));
    ask_one(*std::max_element(timed_.begin(), timed_.end(),
                              [&](int64_t a, int64_t b) { return own_tokens(a) < own_tokens(b); }));
    ask_one(timed_.back());
  }

  void latency() {
    progress("warm-up", 0, 1);
    warm_up();
    const auto before = generator_->counters();
    const double start = now_s();
    double asked_s = 0.0;
    int64_t answered = 0;  // tokens
    const auto total = static_cast<int64_t>(timed_.size());
    for (int64_t n = 0; n < total; ++n) {
      progress("latency", n, total);
      if (n >= kMinLatencyRows && now_s() - start > options_.latency_seconds) {
        run_.notes.push_back(fmt::format("latency over {} requests: the time for it was up", n));
        break;
      }
      const double begin = now_s();
      const Result result = ask_one(timed_[static_cast<size_t>(n)]);
      RequestTimes times;
      times.e2e = 1e3 * (now_s() - begin);
      asked_s += times.e2e / 1e3;
      times.ttft = 1e3 * (result.built_s + result.answer.first_token_s);
      const int64_t tokens = static_cast<int64_t>(result.answer.ids.size()) + (result.answer.stopped ? 1 : 0);
      if (tokens > 1)
        times.tpot = 1e3 * (result.answer.last_token_s - result.answer.first_token_s) / static_cast<double>(tokens - 1);
      run_.speed.requests.push_back(times);
      answered += tokens;
    }
    const auto& after = generator_->counters();
    const auto asked = static_cast<double>(run_.speed.requests.size());
    run_.speed.prompt_tokens = static_cast<double>(after.prefill_tokens - before.prefill_tokens) / asked;
    run_.speed.answer_tokens = static_cast<double>(answered) / asked;
    if (after.decode_tokens > before.decode_tokens)
      run_.speed.decode_tokens_per_s =
          static_cast<double>(after.decode_tokens - before.decode_tokens) / (after.decode_s - before.decode_s);
    const auto& sizes = options_.batch_sizes;
    if (std::find(sizes.begin(), sizes.end(), 1) != sizes.end())
      run_.speed.requests_per_s.emplace_back(1, static_cast<double>(run_.speed.requests.size()) / asked_s);
  }

  void note_memory() {
    const MemoryUse use = memory_use(opened_.llama->device());
    run_.rss_anon_bytes = use.rss_anon;
    run_.rss_file_bytes = use.rss_file;
    run_.rss_peak_bytes = use.rss_peak;
    run_.vram_allocator_bytes = use.vram_allocator;
    run_.vram_device_bytes = use.vram_device;
  }

  void throughput() {
    const auto largest = std::max_element(options_.batch_sizes.begin(), options_.batch_sizes.end());
    if (largest == options_.batch_sizes.end() || *largest == 1) return;  // batch 1: latency() has it
    progress("warm-up in batches", 0, 1);
    ask_batch(0, *largest);  // leaves the cache large enough for all sizes
    for (const int64_t batch : options_.batch_sizes)
      if (batch > 1) throughput(batch);
  }

  /// Full batches from the timed rows, again from the first where they run out.
  void ask_batch(int64_t index, int64_t batch) {
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < batch; ++i) rows.push_back(timed_[static_cast<size_t>(index * batch + i) % timed_.size()]);
    ask(rows, generate_.max_new_tokens);
  }

  void throughput(int64_t batch) {
    const std::string stage = fmt::format("batches of {}", batch);
    const int64_t wanted = std::max<int64_t>(1, kMinBatchRows / batch);
    const double start = now_s();
    int64_t done = 0;
    while (done < wanted && (done == 0 || now_s() - start < options_.latency_seconds)) {
      progress(stage, done * batch, wanted * batch);
      ask_batch(done++, batch);
    }
    progress(stage, done * batch, wanted * batch);
    run_.speed.requests_per_s.emplace_back(batch, static_cast<double>(done * batch) / (now_s() - start));
  }

  /// Loss of the expected answers, in packed batches.
  void mean_loss() {
    const auto sharing = options_.prefix_cache ? data::SharedPrefix::On : data::SharedPrefix::Off;
    const auto batches = data::cut_into_micro_batches(rows_, fitting_, {kLossTokens, sharing, 1});
    const int64_t targets = data::count_targets(rows_, fitting_);
    if (targets == 0) return;
    double sum = 0.0;
    for (size_t i = 0; i < batches.size(); ++i) {
      progress("loss", static_cast<int64_t>(i), static_cast<int64_t>(batches.size()));
      const auto batch = data::pack(rows_, batches[i], sharing);
      sum += model::forward_loss(*opened_.llama, model::to_device(batch, opened_.llama->device()));
    }
    progress("loss", static_cast<int64_t>(batches.size()), static_cast<int64_t>(batches.size()));
    run_.loss = sum / static_cast<double>(targets);
  }

  EnergyOptions energy_options() const {
    EnergyOptions options;
    const at::Device device = opened_.llama->device();
    if (!device.is_cpu()) options.gpu = device.has_index() ? device.index() : 0;
    return options;
  }

  /// All rows of this share, in batches of rows that share a prefix and are of like length; answers in the rows' order.
  void answer_all() {
    std::vector<int64_t> order = fitting_;
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return std::pair(rows_.prefix_id(a), rows_.target_begin(a)) <
             std::pair(rows_.prefix_id(b), rows_.target_begin(b));
    });
    const auto n = static_cast<int64_t>(order.size());
    std::vector<std::optional<RowAnswer>> answers(set_.rows.size());
    run_.speed.accuracy_batch = std::min(options_.batch_size, n);
    EnergyMeter energy(energy_options());
    energy.start();
    const double start = now_s();
    const int64_t step = options_.shares * options_.batch_size;
    for (int64_t begin = options_.share * options_.batch_size; begin < n; begin += step) {
      progress("answers", begin, n);
      const auto count = std::min(options_.batch_size, n - begin);
      const auto batch = std::span(order).subspan(static_cast<size_t>(begin), static_cast<size_t>(count));
      auto results = ask(batch, generate_.max_new_tokens);
      for (size_t j = 0; j < batch.size(); ++j) {
        run_.held += results[j].answer.held > 0 ? 1 : 0;
        answers[static_cast<size_t>(rows_.source_row(batch[j]))] = RowAnswer{
            row(batch[j]).id, std::move(results[j].text), results[j].answer.log_probability, results[j].answer.stopped};
      }
      run_.speed.accuracy_rows += count;
      energy.sample();
    }
    run_.speed.accuracy_s = now_s() - start;
    if (const auto used = energy.stop()) run_.speed.accuracy_energy_j = used->joules;
    run_.speed.energy_sources = energy.describe();
    progress("answers", n, n);
    for (auto& answer : answers)
      if (answer) run_.answers.push_back(std::move(*answer));
  }

  const MeasureOptions& options_;
  const MeasureHooks& hooks_;
  ModelRun run_;
  model::OpenedModel opened_;
  data::RowSet set_;
  data::EncodedDataset rows_;
  std::unique_ptr<decode::Generator> generator_;
  decode::GenerateOptions generate_;
  std::vector<int64_t> fitting_;  // rows of rows_ that leave room for an answer
  std::vector<int64_t> timed_;    // some of them, spread evenly
};

}  // namespace

data::RowSet read_source(const RowSource& source, const std::string& system_text) {
  data::ReadOptions options;
  options.text_field = source.text_field;
  options.answer_field = source.answer_field;
  options.system_text = system_text;
  data::RowSet set = data::read_rows(source.files, options);
  if (source.limit <= 0) return set;
  std::vector<int64_t> taken(set.files.size(), 0);
  std::erase_if(set.rows, [&](const data::Row& row) { return ++taken[static_cast<size_t>(row.file)] > source.limit; });
  return set;
}

ModelRun measure_model(const std::string& name, const fs::path& path, const RowSource& source,
                       const model::OpenOptions& open, const MeasureOptions& options, const MeasureHooks& hooks) {
  return Measurement(name, path, source, open, options, hooks).run();
}

}  // namespace slmi::eval
