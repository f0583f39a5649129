// Runs of several ranks, through MPI or NCCL, have the losses and the adapter of one process; those of one rank its
// bytes.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "../train/small_run.h"
#include "slmi/base/json.h"
#include "slmi/formats/safetensors.h"

namespace slmi::comm {
namespace {

namespace fs = std::filesystem;

#ifdef SLMI_MPIRUN
const std::string kMpirun = SLMI_MPIRUN;
#else
const std::string kMpirun;
#endif

/// All rows of a step in one micro-batch of one process, or in several.
class RunsOfRanks : public ::testing::TestWithParam<int> {
 protected:
  static int run(const std::string& launcher, const fs::path& out, const std::string& flags) {
    return exit_code(command(launcher, out, flags));
  }
  static int exit_code(const std::string& command) {
    const int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  static std::string command(const std::string& launcher, const fs::path& out, const std::string& flags) {
    return launcher + " " + SLMI_RANKS_RUN + " " + out.string() + " " + std::to_string(GetParam()) + " " + flags;
  }
  fs::path alone() const { return here_ / "alone"; }
  void expect_run_of_one_process(const fs::path& out) const;

  TemporaryDirectory here_;
};

class Ranks : public RunsOfRanks {
 protected:
  void SetUp() override {
    if (kMpirun.empty()) GTEST_SKIP() << "built without MPI (libopenmpi-dev is not installed)";
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);  // containers know no other user
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    ::setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
    ::setenv("OMP_NUM_THREADS", "1", 1);
    ASSERT_EQ(RunsOfRanks::run("", alone(), "cpu"), 0);
  }
  static int run(int ranks, const fs::path& out, const std::string& more = "") {
    return RunsOfRanks::run(kMpirun + " -n " + std::to_string(ranks), out, "cpu " + more);
  }
};

/// A GPU each, by torchrun's variables.
class GpuRanks : public RunsOfRanks {
 protected:
  void SetUp() override {
    if (ops::gpu_count() == 0) GTEST_SKIP() << "no GPU here";
    ASSERT_EQ(RunsOfRanks::run("", alone(), "cuda"), 0);
  }
  static int run(int ranks, const fs::path& out, const std::string& more = "") {
    std::string started, waited = "code=0; ";
    for (int rank = 0; rank < ranks; ++rank) {
      const std::string number = std::to_string(rank);
      std::string variables = "RANK=" + number + " LOCAL_RANK=" + number;
      for (const char* size : {"WORLD_SIZE", "LOCAL_WORLD_SIZE"})
        variables += std::string(" ") + size + "=" + std::to_string(ranks);
      started += command(variables, out, "cuda " + more) + " & p" + number + "=$!; ";
      waited += "wait $p" + number + " || code=$?; ";
    }
    return exit_code(started + waited + "exit $code");
  }
};

std::vector<Json> lines_of(const fs::path& run) {
  std::ifstream file(run / "metrics.jsonl");
  std::vector<Json> out;
  for (std::string line; std::getline(file, line);) out.push_back(Json::parse(line));
  return out;
}

/// The adapter's matrices by name, f64.
std::map<std::string, at::Tensor> matrices(const fs::path& adapter) {
  const auto file = formats::SafetensorsFile::open(adapter / "adapter_model.safetensors");
  std::map<std::string, at::Tensor> out;
  for (const auto& [name, t] : file.tensors()) {
    out[name] =
        at::from_blob(const_cast<std::byte*>(t.bytes.data()), {static_cast<int64_t>(t.bytes.size() / 4)}, at::kFloat)
            .to(at::kDouble);
  }
  return out;
}

TEST_P(Ranks, OneRankThroughMpiGivesTheBytesOfOneProcess) {
  ASSERT_EQ(run(1, here_ / "one"), 0);
  EXPECT_EQ(train::testing::differences(here_ / "one", alone()), std::vector<std::string>());
}

void RunsOfRanks::expect_run_of_one_process(const fs::path& out) const {
  const auto want = lines_of(alone()), got = lines_of(out);
  ASSERT_EQ(want.size(), 20u);
  EXPECT_EQ(want.back().at("rows"), 2) << "the last step of an epoch is short";
  const auto start = matrices(model::testing::golden_dir() + "/tiny-tied-adapter"), end = matrices(alone() / "adapter");
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const auto loss = want[i].at("loss").get<double>();
    EXPECT_NEAR(got[i].at("loss").get<double>(), loss, 1e-6 * loss) << "step " << i + 1;
    for (const char* key : {"step", "lr", "rows", "targets"}) EXPECT_EQ(got[i].at(key), want[i].at(key)) << key;
  }
  for (const auto& [name, matrix] : matrices(out / "adapter")) {
    const double moved = (end.at(name) - start.at(name)).norm().item<double>();
    EXPECT_GT(moved, 0.0) << name;
    EXPECT_LT((matrix - end.at(name)).norm().item<double>(), 1e-4 * moved) << name;
  }
}

TEST_P(Ranks, TwoAndFourRanksHaveTheLossesAndTheAdapterOfOneProcess) {
  for (const int ranks : {2, 4}) {
    SCOPED_TRACE(ranks);
    ASSERT_EQ(run(ranks, here_ / std::to_string(ranks)), 0);
    expect_run_of_one_process(here_ / std::to_string(ranks));
  }
}

TEST_P(GpuRanks, OneRankThroughNcclGivesTheBytesOfOneProcess) {
  ASSERT_EQ(run(1, here_ / "one"), 0);
  EXPECT_EQ(train::testing::differences(here_ / "one", alone()), std::vector<std::string>());
}

TEST_P(GpuRanks, AllGpusHaveTheLossesAndTheAdapterOfOneProcess) {
  const auto gpus = static_cast<int>(ops::gpu_count());
  if (gpus < 2) GTEST_SKIP() << "one GPU here";
  ASSERT_EQ(run(gpus, here_ / "all"), 0);
  expect_run_of_one_process(here_ / "all");
}

// Rank 1 has SIGTERM when that step is over, and says so with the next that it begins.
TEST_P(Ranks, ASignalToOneStopsAllAfterTheSameStep) {
  ASSERT_EQ(run(2, here_ / "whole"), 0);
  EXPECT_EQ(run(2, here_ / "run", "f32 9"), 143);
  EXPECT_EQ(lines_of(here_ / "run").size(), 10u);
  ASSERT_EQ(run(2, here_ / "run"), 0);
  EXPECT_EQ(train::testing::differences(here_ / "run", here_ / "whole"), std::vector<std::string>());
}

TEST_P(GpuRanks, ASignalToOneStopsAllAfterTheSameStep) {
  if (ops::gpu_count() < 2) GTEST_SKIP() << "one GPU here";
  ASSERT_EQ(run(2, here_ / "whole", "bf16"), 0);
  EXPECT_EQ(run(2, here_ / "run", "bf16 11"), 143);
  EXPECT_EQ(lines_of(here_ / "run").size(), 14u) << "step 12 is under way then, 13 says it, and 14 runs ahead of that";
  ASSERT_EQ(run(2, here_ / "run", "bf16"), 0);
  EXPECT_EQ(train::testing::differences(here_ / "run", here_ / "whole"), std::vector<std::string>());
}

INSTANTIATE_TEST_SUITE_P(MicroTokens, GpuRanks, ::testing::Values(40, 4096));
INSTANTIATE_TEST_SUITE_P(MicroTokens, Ranks, ::testing::Values(40, 4096));

}  // namespace
}  // namespace slmi::comm
