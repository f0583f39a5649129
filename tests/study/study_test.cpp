// A study over tiny models: its cells, what is kept from one run to the next, what is held against what, and that a
// cell which cannot run leaves the others alone.
#include "slmi/study/study.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "../eval/tiny_model.h"
#include "slmi/ceilings/ceilings.h"
#include "slmi/eval/environment.h"

namespace slmi::study {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(StudyPlan, CellsGoByModelDeviceThreadsFormat) {
  StudyOptions options;
  options.models = {{"a", "a"}, {"b", "b"}};
  options.formats = {"bf16", "q4_k_m"};
  options.devices = {"cpu", "cuda"};
  options.threads = {1, 2};
  std::vector<std::string> ids;
  for (const auto& cell : plan(options)) ids.push_back(cell.id(options.models[cell.model].name));
  EXPECT_THAT(ids, ElementsAre("a-bf16-cpu-1", "a-Q4_K_M-cpu-1", "a-bf16-cpu-2", "a-Q4_K_M-cpu-2", "a-bf16-cuda-1",
                               "a-Q4_K_M-cuda-1", "b-bf16-cpu-1", "b-Q4_K_M-cpu-1", "b-bf16-cpu-2", "b-Q4_K_M-cpu-2",
                               "b-bf16-cuda-1", "b-Q4_K_M-cuda-1"));
}

TEST(StudyPlan, SixteenBitsAreTheReferenceWithinModelDeviceAndThreads) {
  StudyOptions options;
  options.models = {{"a", "a"}, {"b", "b"}};
  options.formats = {"Q8_0", "f32", "bf16", "F16"};  // F16: the GGUF type, no reference
  options.devices = {"cpu"};
  options.threads = {1};
  const auto cells = plan(options);
  ASSERT_EQ(cells.size(), 8U);
  EXPECT_EQ(reference_of(cells, 0), 2);
  EXPECT_EQ(reference_of(cells, 2), 2);
  EXPECT_EQ(reference_of(cells, 4), 6);
  options.formats = {"Q8_0", "gptq"};
  EXPECT_EQ(reference_of(plan(options), 0), -1);
}

TEST(StudyPlan, WhatCannotBeMeantIsAnError) {
  const auto message = [](const std::function<void(StudyOptions&)>& change) -> std::string {
    StudyOptions options;
    options.models = {{"a", "a"}};
    options.formats = {"bf16"};
    options.devices = {"cpu"};
    options.threads = {1};
    change(options);
    try {
      plan(options);
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::Usage);
      return e.what();
    }
    return "no error";
  };
  EXPECT_THAT(message([](auto& o) { o.formats = {"int8"}; }), HasSubstr("format 'int8': expected f32"));
  EXPECT_THAT(message([](auto& o) { o.formats = {"bf16", "bf16"}; }), HasSubstr("format bf16 is given twice"));
  EXPECT_THAT(message([](auto& o) { o.formats.clear(); }), HasSubstr("no format to study"));
  EXPECT_THAT(message([](auto& o) { o.devices = {"tpu"}; }), HasSubstr("device 'tpu'"));
  EXPECT_THAT(message([](auto& o) { o.models.clear(); }), HasSubstr("no model"));
}

/// A tiny model whose "formats" are copies of it; Q8_0's weights are another model's.
class StudyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    eval::write_tiny_model(dir_ / "model", 5, "real");
    eval::write_tiny_model(dir_ / "other", 6, "real");
    const std::vector<std::string> texts = {"ab", "cde", "f", "gh", "ijkl", "m"};
    const auto right = eval::answers_one_by_one(dir_ / "model", texts, "", kMaxNew);
    std::vector<Json> rows;
    for (size_t i = 0; i < texts.size(); ++i)
      rows.push_back(
          {{"id", fmt::format("r{}", i)}, {"text", texts[i]}, {"answer", i < 4 ? right[i] : "nothing of it"}});
    eval::write_lines(dir_ / "rows.jsonl", rows);
    options_.models = {{"tiny", dir_ / "model"}};
    options_.formats = {"bf16", "gptq", "nf4"};
    options_.devices = {"cpu"};
    options_.threads = {1};
    options_.rows.files = {dir_ / "rows.jsonl"};
    options_.measure.max_new_tokens = kMaxNew;
    options_.measure.latency_rows = 3;
    options_.measure.batch_sizes = {1, 2};
    options_.out = dir_ / "out";
    options_.worker_command = {SLMI_EVAL_WORKER};
    options_.artefact_settings = {{"group_size", 64}};
    options_.make = [this](const Artefact& artefact) {
      made_.push_back(artefact.format.name);
      require(artefact.format.name != fails_, ErrorKind::Input, "no rows to calibrate on");
      fs::copy(artefact.format.maker == Maker::Gptq ? dir_ / "other" : artefact.model.path, artefact.path);
    };
    options_.open = [](const Format&, const std::string&) { return model::OpenOptions{}; };
    // Measuring this machine takes seconds; what is stored is taken.
    fs::create_directories(dir_ / "out" / "cells");
    ceilings::Ceilings ceilings;
    ceilings.device = "cpu";
    ceilings.threads = 1;
    ceilings.read_gb_per_s = 10.0;
    ceilings.f32_gflops = 50.0;
    const report::Build build = eval::build();
    const Json key = {{"version", build.version}, {"commit", build.commit}};
    write_file_atomically(dir_ / "out" / "cells" / "ceilings-cpu-1.json",
                          Json{{"key", key}, {"ceilings", ceilings::to_json(ceilings)}}.dump());
  }
  report::StudyReport study() {
    made_.clear();
    return run_study(options_);
  }

  static constexpr int64_t kMaxNew = 10;
  TemporaryDirectory dir_;
  StudyOptions options_;
  std::vector<std::string> made_;
  std::string fails_;
};

TEST_F(StudyTest, EveryCellIsMeasuredAndHeldAgainstSixteenBits) {
  const auto report = study();
  ASSERT_EQ(report.cells.size(), 3U);
  for (const auto& cell : report.cells) {
    EXPECT_EQ(cell.problem, "") << cell.format;
    ASSERT_TRUE(cell.run.has_value());
    EXPECT_GT(*cell.run->latency_ms.tpot.p50, 0.0);
    EXPECT_EQ(*cell.file_bytes, static_cast<int64_t>(fs::file_size(dir_ / "model" / "model.safetensors")));
    ASSERT_TRUE(cell.roof.has_value());
    EXPECT_GT(cell.roof->tpot, 0.0);
    EXPECT_GT(*cell.prompt_tokens, 1.0);
    EXPECT_GT(*cell.answer_tokens, 0.0);
    EXPECT_EQ(cell.cost_per_million, std::nullopt);  // no price was given
  }
  const auto& bf16 = *report.cells[0].run;
  const auto& gptq = *report.cells[1].run;
  EXPECT_NEAR(bf16.exact_match.value, 4.0 / 6, 1e-9);
  EXPECT_FALSE(bf16.against.has_value());
  ASSERT_TRUE(gptq.against.has_value());
  EXPECT_EQ(gptq.against->lost, 4);
  EXPECT_EQ(gptq.against->gained, 0);
  ASSERT_TRUE(report.cells[2].run->against.has_value());
  EXPECT_EQ(report.cells[2].run->against->lost, 0);
  for (const char* name : {"study.json", "study.md", "study.csv", "study.html"})
    EXPECT_TRUE(fs::exists(dir_ / "out" / name)) << name;
}

TEST_F(StudyTest, TheTokenRoofIsTheWeightsOverTheBandwidth) {
  const auto report = study();
  // 32-bit weights at 10 GB/s, keys and values beside them: a few per cent at these lengths.
  const auto config = eval::tiny_config();
  const double block = 2.0 * config.hidden_size * config.hidden_size + 2.0 * config.hidden_size * 16 +
                       3.0 * config.hidden_size * config.intermediate_size;
  const double weights =
      4.0 * (config.num_layers * block + static_cast<double>(config.vocab_size) * config.hidden_size);
  EXPECT_GT(report.cells[0].roof->tpot, weights / 10e9 * 1e3);
  EXPECT_LT(report.cells[0].roof->tpot, 1.3 * weights / 10e9 * 1e3);
  EXPECT_EQ(report.cells[0].roof->decode_bound, "memory");
}

TEST_F(StudyTest, WhatWasMeasuredIsKeptUntilItsInputsChange) {
  const auto first = study();
  EXPECT_THAT(made_, ElementsAre("bf16", "gptq", "nf4"));
  const auto again = study();
  EXPECT_TRUE(made_.empty());
  // The same figures to the last digit: no cell ran again.
  EXPECT_EQ(*again.cells[1].run->load_s, *first.cells[1].run->load_s);
  options_.artefact_settings = {{"group_size", 32}};
  const auto changed = study();
  EXPECT_THAT(made_, ElementsAre("gptq", "nf4"));
  EXPECT_EQ(*changed.cells[0].run->load_s, *first.cells[0].run->load_s);
  EXPECT_NE(*changed.cells[1].run->load_s, *first.cells[1].run->load_s);
  options_.measure.latency_rows = 2;
  EXPECT_NE(*study().cells[0].run->load_s, *first.cells[0].run->load_s);
  EXPECT_TRUE(made_.empty());
}

TEST_F(StudyTest, ACellThatCannotRunSaysWhyAndIsTriedAgainOnRequest) {
  fails_ = "gptq";
  options_.open = [](const Format& format, const std::string&) {
    require(format.name != "nf4", ErrorKind::Device, "no such device");
    return model::OpenOptions{};
  };
  const auto report = study();
  EXPECT_TRUE(report.cells[0].run.has_value());
  EXPECT_THAT(report.cells[1].problem, HasSubstr("no rows to calibrate on"));
  EXPECT_FALSE(report.cells[1].run.has_value());
  EXPECT_EQ(report.cells[2].problem, "no such device");
  EXPECT_THAT(report::to_terminal(report, 100), HasSubstr("no rows to calibrate on"));
  fails_.clear();
  EXPECT_THAT(study().cells[1].problem, HasSubstr("no rows to calibrate on"));
  EXPECT_TRUE(made_.empty());
  options_.retry = true;
  EXPECT_EQ(study().cells[1].problem, "");
  EXPECT_THAT(made_, ElementsAre("gptq"));
}

TEST_F(StudyTest, APriceGivesTheCostOfAMillionRequests) {
  options_.formats = {"bf16"};
  options_.price_per_hour = 3.6;
  const auto report = study();
  double best = 0.0;
  for (const auto& [batch, rate] : report.cells[0].run->requests_per_s) best = std::max(best, rate);
  EXPECT_NEAR(*report.cells[0].cost_per_million, 1e3 / best, 1e-6);
}

TEST_F(StudyTest, NamedHardwareIsPredictedAndMarked) {
  options_.formats = {"bf16"};
  options_.hardware = {"T4"};
  const auto report = study();
  ASSERT_EQ(report.predictions.size(), 1U);
  EXPECT_EQ(report.predictions[0].hardware, "T4");
  EXPECT_GT(*report.predictions[0].tpot, 0.0);
  EXPECT_LT(*report.predictions[0].tpot, report.cells[0].roof->tpot);  // its memory is faster than 10 GB/s
  EXPECT_THAT(report::to_html(report), HasSubstr("PREDICTED, not measured"));
  options_.hardware = {"T44"};
  EXPECT_THROW(study(), Error);
}

TEST_F(StudyTest, ASignalStopsItAndWhatWasDoneIsKept) {
  std::atomic<int> signal = 0;
  options_.signal = &signal;
  options_.formats = {"bf16", "gptq"};
  const auto make = options_.make;
  options_.make = [&](const Artefact& artefact) {
    if (artefact.format.name == "gptq") fail(ErrorKind::Interrupted, "stopped");
    make(artefact);
  };
  try {
    study();
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Interrupted);
  }
  options_.make = make;
  study();
  EXPECT_THAT(made_, ElementsAre("gptq"));
}

}  // namespace
}  // namespace slmi::study
