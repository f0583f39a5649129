// The study's texts: what is shown, what is left out, what is marked as not measured.
#include "slmi/report/study.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace slmi::report {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

StudyCell cell(const std::string& format, double match, double tpot) {
  StudyCell out;
  out.model = "shop";
  out.format = format;
  out.device = "cpu";
  out.threads = 2;
  ModelReport run;
  run.n = 1000;
  run.exact_match = {match, match - 0.01, match + 0.01};
  run.latency_ms.tpot.p50 = tpot;
  run.latency_ms.ttft.p50 = 40.0;
  run.requests_per_s = {{"1", 2.0}, {"8", 5.5}};
  run.load_s = 1.5;
  out.run = run;
  out.file_bytes = 1 << 30;
  out.roof = RoofReport{20.0, 5.0, 100.0, "matrix products", "memory"};
  return out;
}

StudyReport report_of_two() {
  StudyReport report;
  report.cells = {cell("bf16", 0.95, 20.0), cell("Q4_K_M", 0.94, 10.0)};
  Against against;
  against.reference = "bf16";
  against.n = 1000;
  against.lost = 15;
  against.gained = 5;
  against.p = 0.0414;
  report.cells[1].run->against = against;
  return report;
}

TEST(StudyReport, ACellShowsItsDifferenceAndHowFarItIsFromTheRoof) {
  const std::string text = study_table(report_of_two()).markdown();
  EXPECT_THAT(text, HasSubstr("shop on cpu, 2 threads"));
  EXPECT_THAT(text, HasSubstr("-1.0 (15 lost, 5 gained, p 0.0414)"));
  EXPECT_THAT(text, HasSubstr("| Q4\\_K\\_M | 94.0 %"));
  EXPECT_THAT(text, HasSubstr("| 5.50 |"));                  // the best batch
  EXPECT_THAT(text, HasSubstr("| 5.00 | 2.00 | memory |"));  // roof, times the roof, bound
}

TEST(StudyReport, ColumnsThatNoCellFillsAreLeftOut) {
  auto report = report_of_two();
  EXPECT_THAT(study_table(report).markdown(), Not(HasSubstr("J a request")));
  report.cells[0].run->joules_per_request = 3.25;
  EXPECT_THAT(study_table(report).markdown(), HasSubstr("J a request"));
}

TEST(StudyReport, RandomWeightsShowNoQuality) {
  auto report = report_of_two();
  for (auto& c : report.cells) c.run->weights = Weights::Random;
  const std::string text = study_table(report).markdown();
  EXPECT_THAT(text, Not(HasSubstr("exact match")));
  EXPECT_THAT(text, HasSubstr("random weights: no statement about quality"));
  EXPECT_THAT(to_csv(report), Not(HasSubstr("0.94")));
}

TEST(StudyReport, CellsThatFailedAreNamedWithTheirReason) {
  auto report = report_of_two();
  report.cells[1].run.reset();
  report.cells[1].problem = "out of memory";
  EXPECT_THAT(to_markdown(report), HasSubstr("shop on cpu, 2 threads: Q4\\_K\\_M | out of memory"));
  EXPECT_THAT(to_csv(report), HasSubstr("shop,Q4_K_M,cpu,2,out of memory,,"));
}

TEST(StudyReport, PredictionsAreMarkedInEveryForm) {
  auto report = report_of_two();
  EXPECT_TRUE(predictions_table(report).empty());
  report.predictions = {{"shop", "bf16", "T4", "", 12.0, 8.0, 100.0},
                        {"shop", "bf16", "Pi", "does not fit 8 GB", {}, {}, {}}};
  for (const auto& text : {to_terminal(report, 120), to_markdown(report), to_html(report)}) {
    EXPECT_THAT(text, HasSubstr("PREDICTED"));
    EXPECT_THAT(text, HasSubstr("12.0 + 8.00"));
    EXPECT_THAT(text, HasSubstr("does not fit 8 GB"));
  }
}

TEST(StudyReport, JsonHoldsEveryFigure) {
  const Json json = to_json(report_of_two());
  ASSERT_EQ(json["cells"].size(), 2U);
  EXPECT_EQ(json["cells"][1]["roof"]["tpot_ms"], 5.0);
  EXPECT_EQ(json["cells"][1]["run"]["against"]["lost"], 15);
  EXPECT_TRUE(json["cells"][0]["run"]["joules_per_request"].is_null());
}

}  // namespace
}  // namespace slmi::report
