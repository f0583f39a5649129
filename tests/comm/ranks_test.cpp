// Runs of one, two and four ranks through MPI have the losses and the adapter of one process.
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
using train::testing::TemporaryDirectory;

#ifdef SLMI_MPIRUN
const std::string kMpirun = SLMI_MPIRUN;
#else
const std::string kMpirun;
#endif

/// All rows of a step in one micro-batch of one process, or in several.
class Ranks : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (kMpirun.empty()) GTEST_SKIP() << "built without MPI (libopenmpi-dev is not installed)";
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);  // containers know no other user
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    ::setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
    ::setenv("OMP_NUM_THREADS", "1", 1);
    ASSERT_EQ(run("", alone()), 0);
  }
  int run(const std::string& launcher, const fs::path& out) const {
    return std::system(
        (launcher + " " + SLMI_RANKS_RUN + " " + out.string() + " " + std::to_string(GetParam())).c_str());
  }
  int run(int ranks, const fs::path& out) const { return run(kMpirun + " -n " + std::to_string(ranks), out); }
  fs::path alone() const { return here_ / "alone"; }

  TemporaryDirectory here_;
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

TEST_P(Ranks, TwoAndFourRanksHaveTheLossesAndTheAdapterOfOneProcess) {
  const auto want = lines_of(alone());
  ASSERT_EQ(want.size(), 20u);
  EXPECT_EQ(want.back().at("rows"), 2) << "the last step of an epoch is short";
  const auto start = matrices(model::testing::golden_dir() + "/tiny-tied-adapter"), end = matrices(alone() / "adapter");
  for (const int ranks : {2, 4}) {
    SCOPED_TRACE(ranks);
    const fs::path out = here_ / std::to_string(ranks);
    ASSERT_EQ(run(ranks, out), 0);
    const auto got = lines_of(out);
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
}

INSTANTIATE_TEST_SUITE_P(MicroTokens, Ranks, ::testing::Values(40, 4096));

}  // namespace
}  // namespace slmi::comm
