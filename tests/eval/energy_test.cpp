// Energy meters on a made-up tree of counters and a made-up GPU library: sums, wrap-around, and what is said without.
#include "slmi/eval/energy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "../base/temporary_directory.h"

namespace slmi::eval {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// As the kernel shows a machine of two packages, with their parts and the whole system beside them.
class EnergyTest : public ::testing::Test {
 protected:
  EnergyTest() { options_.powercap = dir_.path(); }

  void add(const std::string& domain, const std::string& name, uint64_t energy_uj) {
    fs::create_directories(dir_ / domain);
    write_all(dir_ / domain / "name", name + "\n");
    write_all(dir_ / domain / "max_energy_range_uj", "262143328850\n");
    set(domain, energy_uj);
  }
  void set(const std::string& domain, uint64_t energy_uj) {
    write_all(dir_ / domain / "energy_uj", std::to_string(energy_uj) + "\n");
  }
  void add_two_packages() {
    add("intel-rapl:0", "package-0", 1'000'000);
    add("intel-rapl:0:0", "core", 500'000);
    add("intel-rapl:0:1", "dram", 500'000);
    add("intel-rapl:1", "package-1", 7'000'000);
    add("intel-rapl:2", "psys", 9'000'000);
    add("intel-rapl-mmio:0", "package-0", 1'000'000);
    fs::create_directories(dir_ / "intel-rapl");
  }

  TemporaryDirectory dir_;
  EnergyOptions options_;
};

TEST_F(EnergyTest, SumsThePackagesAndNothingTwice) {
  add_two_packages();
  EnergyMeter meter(options_);
  EXPECT_THAT(meter.sources(), ElementsAre("RAPL package-0", "RAPL package-1"));
  set("intel-rapl:0", 2'000'000);  // before the start: does not count
  meter.start();
  set("intel-rapl:0", 5'500'000);
  set("intel-rapl:1", 7'250'000);
  for (const char* other : {"intel-rapl:0:0", "intel-rapl:0:1", "intel-rapl:2", "intel-rapl-mmio:0"})
    set(other, 99'000'000);
  const auto used = meter.stop();
  ASSERT_TRUE(used);
  EXPECT_DOUBLE_EQ(used->joules, 3.5 + 0.25);
  EXPECT_EQ(used->sources, "RAPL package-0, RAPL package-1");
  EXPECT_EQ(meter.describe(), used->sources);
  meter.start();  // a meter can be used again
  set("intel-rapl:0", 6'500'000);
  EXPECT_DOUBLE_EQ(meter.stop()->joules, 1.0);
}

TEST_F(EnergyTest, CountersThatStartAgainAreFollowed) {
  add("intel-rapl:0", "package-0", 262'143'000'000);
  EnergyMeter meter(options_);
  meter.start();
  set("intel-rapl:0", 671'150);  // 328,850 to the end of the range and 671,150 after it
  meter.sample();
  set("intel-rapl:0", 262'000'671'150);
  meter.sample();
  set("intel-rapl:0", 0);  // 142,657,700 more, to the end
  EXPECT_NEAR(meter.stop()->joules, 1.0 + 262'000.0 + 142.6577, 1e-6);
}

TEST_F(EnergyTest, WithoutCountersThereIsAReason) {
  EnergyMeter empty(options_);
  empty.start();
  EXPECT_FALSE(empty.stop());
  EXPECT_THAT(empty.sources(), IsEmpty());
  EXPECT_EQ(empty.describe(), "none (RAPL: no package domain in " + dir_.path().string() + ")");
  options_.powercap = dir_ / "absent";
  EXPECT_THAT(EnergyMeter(options_).describe(), HasSubstr("none (RAPL: no package domain in"));
}

TEST_F(EnergyTest, OnePackageThatCannotBeReadMakesAllAbsent) {
  add_two_packages();
  fs::remove(dir_ / "intel-rapl:1" / "energy_uj");
  fs::create_directory(dir_ / "intel-rapl:1" / "energy_uj");  // permissions would not stop root
  EnergyMeter meter(options_);
  meter.start();
  EXPECT_FALSE(meter.stop());
  EXPECT_THAT(meter.describe(), HasSubstr("none (RAPL: "));
  EXPECT_THAT(meter.describe(), HasSubstr("intel-rapl:1/energy_uj cannot be read ("));
  EXPECT_THAT(meter.describe(), HasSubstr("sudo chmod a+r"));
}

TEST_F(EnergyTest, ACounterThatGoesAwayMakesTheSumAbsent) {
  add("intel-rapl:0", "package-0", 10);
  EnergyMeter meter(options_);
  meter.start();
  fs::remove(dir_ / "intel-rapl:0" / "energy_uj");
  EXPECT_FALSE(meter.stop());
  EXPECT_EQ(meter.describe(), "none (RAPL package-0: could not be read to the end)");
}

TEST_F(EnergyTest, AGpuIsAddedToTheProcessors) {
  add("intel-rapl:0", "package-0", 0);
  options_.gpu = 0;
  options_.nvml = SLMI_FAKE_NVML;
  EnergyMeter meter(options_);
  EXPECT_THAT(meter.sources(), ElementsAre("RAPL package-0", "NVML GPU 0"));
  meter.start();
  set("intel-rapl:0", 250'000);
  meter.sample();                  // one reading of the GPU
  const auto used = meter.stop();  // and another
  ASSERT_TRUE(used);
  EXPECT_DOUBLE_EQ(used->joules, 0.25 + 2 * 2.5);
  EXPECT_EQ(used->sources, "RAPL package-0, NVML GPU 0");
}

TEST_F(EnergyTest, AGpuAloneSaysThatTheProcessorsAreMissing) {
  options_.gpu = 0;
  options_.nvml = SLMI_FAKE_NVML;
  EnergyMeter meter(options_);
  meter.start();
  const auto used = meter.stop();
  ASSERT_TRUE(used);
  EXPECT_DOUBLE_EQ(used->joules, 2.5);
  EXPECT_THAT(used->sources, HasSubstr("NVML GPU 0 (without RAPL: no package domain"));
}

TEST_F(EnergyTest, AGpuThatCannotBeReadMakesTheSumAbsent) {
  add("intel-rapl:0", "package-0", 0);
  options_.gpu = 0;
  options_.nvml = "libslmi-no-such-library.so.1";
  EnergyMeter absent(options_);
  absent.start();
  EXPECT_FALSE(absent.stop());
  EXPECT_EQ(absent.describe(), "none (NVML: libslmi-no-such-library.so.1 is not there)");
  options_.nvml = SLMI_FAKE_NVML;
  ::setenv("SLMI_FAKE_NVML_STATUS", "3", 1);
  EnergyMeter old(options_);
  ::unsetenv("SLMI_FAKE_NVML_STATUS");
  old.start();
  EXPECT_FALSE(old.stop());
  EXPECT_THAT(old.describe(), HasSubstr("does not count its energy"));
}

}  // namespace
}  // namespace slmi::eval
