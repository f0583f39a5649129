// The table of machines: its entries hang together, are found by the names people use, and predict what is measured.
#include "slmi/ceilings/hardware.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "../base/expect_error.h"

namespace slmi::ceilings {
namespace {

TEST(Hardware, EveryEntryIsWholeAndSaysWhereItComesFrom) {
  std::set<std::string_view> names;
  for (const auto& h : all_hardware()) {
    SCOPED_TRACE(h.name);
    EXPECT_TRUE(names.insert(h.name).second);
    EXPECT_FALSE(h.processor.empty());
    EXPECT_FALSE(h.source.empty());
    EXPECT_GT(h.memory_gb, 0);
    EXPECT_GT(h.memory_gb_per_s, 0);
    EXPECT_GT(h.f32_gflops, 0);
    ASSERT_TRUE(h.int8_gops);
    for (const auto& rate : {h.f16_gflops, h.bf16_gflops}) {
      if (!rate) continue;
      // Half the width is twice the rate or more, and int8 two or four times that again; sparsity would break it.
      EXPECT_GE(*rate, 1.9 * h.f32_gflops);
      const double int8_over_16 = *h.int8_gops / *rate;
      EXPECT_TRUE(std::abs(int8_over_16 - 2) < 0.02 || std::abs(int8_over_16 - 4) < 0.02) << int8_over_16;
    }
  }
  EXPECT_GE(names.size(), 12U);
}

TEST(Hardware, IsFoundByTheNamesPeopleUse) {
  for (const char* name : {"T4", "L4", "A10", "A100 40GB", "A100-80gb", "H100 SXM", "h200", "RTX 3060 12GB", "rtx-4090",
                           "GeForce RTX 4090", "rtx_4050_laptop", "Raspberry Pi 5", "NVIDIA T4", "Ryzen 7 7700X"})
    EXPECT_TRUE(find_hardware(name)) << name;
  EXPECT_EQ(find_hardware("h100sxm")->name, "H100");
  EXPECT_EQ(find_hardware("RTX 3060 12GB")->memory_gb, 12);
  EXPECT_FALSE(find_hardware("T"));
  EXPECT_FALSE(find_hardware(""));
}

TEST(Hardware, AnUnknownNameLeadsToANearOneOrToTheList) {
  SLMI_EXPECT_ERROR(Usage, "'T44': no such machine; did you mean T4?", named_hardware("T44"));
  SLMI_EXPECT_ERROR(Usage, "did you mean RTX 4090?", named_hardware("RTX 4080"));
  SLMI_EXPECT_ERROR(Usage, "known are T4, L4, A10,", named_hardware("quantum computer"));
  EXPECT_EQ(named_hardware("t4").processor, "NVIDIA T4");
}

TEST(Hardware, PredictionsAreMarkedAndNearWhatWasMeasured) {
  // Measured with libtorch: copies at 3.03 and 4.3 TB/s, bf16 products of 8192^3 at 797 and 790 TFLOP/s.
  const Ceilings h100 = predicted_ceilings(named_hardware("H100")), h200 = predicted_ceilings(named_hardware("H200"));
  EXPECT_TRUE(h100.predicted);
  EXPECT_EQ(h100.device, "cuda");
  EXPECT_EQ(h100.processor, "NVIDIA H100 SXM");
  EXPECT_NEAR(h100.read_gb_per_s, 3030, 0.02 * 3030);
  EXPECT_NEAR(h200.read_gb_per_s, 4300, 0.02 * 4300);
  EXPECT_NEAR(*h100.bf16_gflops, 797e3, 0.02 * 797e3);
  EXPECT_NEAR(*h200.bf16_gflops, 790e3, 0.02 * 790e3);
  const Ceilings t4 = predicted_ceilings(named_hardware("T4"));
  EXPECT_DOUBLE_EQ(t4.read_gb_per_s, 320 * 0.9);
  EXPECT_DOUBLE_EQ(*t4.f16_gflops, 65e3 * 0.8);
  EXPECT_FALSE(t4.bf16_gflops) << "Turing has no bf16 units";
  EXPECT_EQ(predicted_ceilings(named_hardware("Raspberry Pi 5")).device, "cpu");
}

}  // namespace
}  // namespace slmi::ceilings
