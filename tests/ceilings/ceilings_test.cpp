// Ceilings: their JSON, and that measuring can be stopped. That the figures are measured is `slmi bench`'s test.
#include "slmi/ceilings/ceilings.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

#include "../base/expect_error.h"
#include "slmi/ceilings/probe.h"

namespace slmi::ceilings {
namespace {

TEST(Ceilings, SurviveTheirJson) {
  Ceilings measured;
  measured.device = "cpu";
  measured.processor = "A \"processor\"";
  measured.threads = 2;
  measured.read_gb_per_s = 34.25;
  measured.read_gb_per_s_one_thread = 31.5;
  measured.f32_gflops = 190.125;
  measured.bf16_gflops = 406;
  const Json json = Json::parse(to_json(measured).dump());
  EXPECT_EQ(json["read_gb_per_s"], 34.25);
  EXPECT_TRUE(json["f16_gflops"].is_null());
  const Ceilings back = ceilings_from_json(json, "F");
  EXPECT_EQ(to_json(back), json);
  EXPECT_EQ(back.processor, measured.processor);
  EXPECT_EQ(back.threads, 2);
  EXPECT_FALSE(back.predicted);
  EXPECT_EQ(back.read_gb_per_s_one_thread, 31.5);
  EXPECT_EQ(back.bf16_gflops, 406.0);
  EXPECT_EQ(back.f16_gflops, std::nullopt);
}

TEST(Ceilings, JsonOfAnotherKindIsRefusedByKey) {
  const Json good = to_json(Ceilings{});
  SLMI_EXPECT_ERROR(Input, "F: expected an object", ceilings_from_json(Json::array(), "F"));
  for (const auto& item : good.items()) {
    Json broken = good;
    broken.erase(item.key());
    SLMI_EXPECT_ERROR(Input, "F: '" + item.key() + "' is missing", ceilings_from_json(broken, "F"));
    broken[item.key()] = Json::array();
    SLMI_EXPECT_ERROR(Input, "F: " + item.key() + ": unexpected array", ceilings_from_json(broken, "F"));
  }
}

TEST(Ceilings, ProgressMayStopTheMeasurement) {
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  std::vector<std::string> said;
  const auto stop_at_second = [&](const std::string& text) {
    said.push_back(text);
    if (said.size() == 2) throw std::runtime_error("stopped");
  };
  EXPECT_THROW(measure_ceilings(at::kCPU, stop_at_second), std::runtime_error);
  EXPECT_EQ(said, (std::vector<std::string>{"memory, one thread", "memory, 2 threads"}));
  EXPECT_EQ(at::get_num_threads(), 2) << "the measurement with one thread left its number behind";
  at::set_num_threads(threads);
}

TEST(MatrixProbe, CountsTheWorkOfItsShape) {
  // By a clock of its own, a quarter of a second a look: three products take as long as one, whatever else runs here.
  double time_s = 0;
  const auto clock_s = [&] { return time_s += 0.25; };
  EXPECT_DOUBLE_EQ(matrix_rate_gflops(ops::Compute::F32, at::kCPU, {32, 64, 128, 1, 0.1}, clock_s),
                   2.0 * 32 * 64 * 128 / 0.25 / 1e9);
  EXPECT_DOUBLE_EQ(matrix_rate_gflops(ops::Compute::F32, at::kCPU, {32, 64, 128, 3, 0.1}, clock_s),
                   3 * 2.0 * 32 * 64 * 128 / 0.25 / 1e9);
}

}  // namespace
}  // namespace slmi::ceilings
