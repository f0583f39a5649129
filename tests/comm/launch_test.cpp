// Which rank a process is, from every launcher's variables, and what is refused.
#include "slmi/comm/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "slmi/base/error.h"

namespace slmi::comm {
namespace {

using Variables = std::map<std::string, std::string>;

Launch read(const Variables& variables) {
  return read_launch([&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  });
}

std::string refusal(const Variables& variables) {
  try {
    read(variables);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Usage);
    return e.what();
  }
  return "accepted";
}

void expect_rank(const Variables& variables, Launcher launcher, int64_t rank, int64_t size, int64_t local_rank) {
  const Launch got = read(variables);
  EXPECT_EQ(got.launcher, launcher);
  EXPECT_EQ(got.rank, rank);
  EXPECT_EQ(got.size, size);
  EXPECT_EQ(got.local_rank, local_rank);
}

const Variables kTorchrun = {{"RANK", "5"}, {"WORLD_SIZE", "8"}, {"LOCAL_RANK", "1"}};
const Variables kOpenMpi = {
    {"OMPI_COMM_WORLD_RANK", "5"}, {"OMPI_COMM_WORLD_SIZE", "8"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}};
const Variables kSrun = {
    {"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "5"}, {"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_LOCALID", "1"}};

Variables both(Variables a, const Variables& b) {
  a.insert(b.begin(), b.end());
  return a;
}
Variables with(Variables a, const std::string& name, const std::string& value) {
  a[name] = value;
  return a;
}
Variables without(Variables a, const std::string& name) {
  a.erase(name);
  return a;
}

TEST(Launch, EachLauncherIsToldByItsVariables) {
  expect_rank({}, Launcher::None, 0, 1, 0);
  expect_rank(kTorchrun, Launcher::Torchrun, 5, 8, 1);
  expect_rank(kOpenMpi, Launcher::Mpirun, 5, 8, 1);
  expect_rank({{"PMI_RANK", "2"}, {"PMI_SIZE", "4"}, {"MPI_LOCALRANKID", "0"}}, Launcher::Mpirun, 2, 4, 0);
  expect_rank(kSrun, Launcher::Srun, 5, 8, 1);
}

TEST(Launch, RanksOfOneMachineAreCountedWhereTheLauncherDoes) {
  EXPECT_EQ(read(kOpenMpi).local_size, 0);
  EXPECT_EQ(read(with(kOpenMpi, "OMPI_COMM_WORLD_LOCAL_SIZE", "4")).local_size, 4);
  EXPECT_EQ(read(with(kTorchrun, "LOCAL_WORLD_SIZE", "2")).local_size, 2);
  EXPECT_EQ(read(with(kSrun, "SLURM_NTASKS_PER_NODE", "3")).local_size, 3);
  EXPECT_THAT(refusal(with(kTorchrun, "LOCAL_WORLD_SIZE", "two")),
              ::testing::StartsWith("LOCAL_WORLD_SIZE=two: wanted"));
}

TEST(Launch, AShellInsideASlurmJobIsNoRank) {
  expect_rank({{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "0"}}, Launcher::None, 0, 1, 0);
}

TEST(Launch, MpirunInsideASlurmJobIsMpiruns) {
  const Variables daemon = {{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}};
  expect_rank(both(kOpenMpi, daemon), Launcher::Mpirun, 5, 8, 1);
}

TEST(Launch, TorchrunsVariablesThatAnotherLauncherSetsMustAgree) {
  expect_rank(both(kTorchrun, kOpenMpi), Launcher::Mpirun, 5, 8, 1);
  expect_rank(both(kTorchrun, kSrun), Launcher::Srun, 5, 8, 1);
  EXPECT_EQ(refusal(both(with(kTorchrun, "WORLD_SIZE", "16"), kOpenMpi)),
            "WORLD_SIZE=16 but OMPI_COMM_WORLD_SIZE=8: two launchers disagree; unset one's variables");
  EXPECT_EQ(refusal(both(with(kTorchrun, "RANK", "4"), kSrun)),
            "RANK=4 but SLURM_PROCID=5: two launchers disagree; unset one's variables");
}

TEST(Launch, WhatIsMissingOrNoRankIsNamed) {
  EXPECT_THAT(refusal(without(kTorchrun, "WORLD_SIZE")), ::testing::StartsWith("RANK is set but WORLD_SIZE is not"));
  EXPECT_THAT(refusal(without(kOpenMpi, "OMPI_COMM_WORLD_RANK")),
              ::testing::StartsWith("OMPI_COMM_WORLD_SIZE is set but OMPI_COMM_WORLD_RANK is not"));
  for (const char* value : {"", "x", "-1", "3x", "1e3", "99999999999999999999"})
    EXPECT_THAT(refusal(with(kTorchrun, "RANK", value)),
                ::testing::StartsWith(std::string("RANK=") + value + ": wanted"));
  EXPECT_EQ(refusal(with(kTorchrun, "RANK", "8")), "RANK=8 with WORLD_SIZE=8: ranks count from 0 to 7");
}

MeetingPlace place(const Variables& variables, const Launch& launch) {
  return read_meeting_place(
      [&](const char* name) -> std::optional<std::string> {
        const auto found = variables.find(name);
        return found == variables.end() ? std::nullopt : std::optional(found->second);
      },
      launch);
}

TEST(MeetingPlace, IsWhatTheLauncherSaysOrThisMachine) {
  const Launch one_machine = {Launcher::Mpirun, 1, 4, 1, 4}, unknown = {Launcher::Srun, 1, 4, 1, 0};
  const auto given = place({{"MASTER_ADDR", "node3"}, {"MASTER_PORT", "1234"}}, unknown);
  EXPECT_EQ(given.host, "node3");
  EXPECT_EQ(given.port, 1234);
  EXPECT_FALSE(given.served);
  const auto here = place({}, one_machine);
  EXPECT_EQ(here.host, "127.0.0.1");
  EXPECT_EQ(here.port, 29500);
  EXPECT_EQ(place({{"SLURM_STEP_NUM_NODES", "1"}}, unknown).host, "127.0.0.1");
  EXPECT_EQ(place({}, {Launcher::Mpirun, 0, 1, 0, 1}).port, 0) << "one rank disturbs nobody";
  const auto of_agent = place({{"MASTER_ADDR", "node3"},
                               {"MASTER_PORT", "1234"},
                               {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                               {"TORCHELASTIC_RESTART_COUNT", "2"}},
                              unknown);
  EXPECT_TRUE(of_agent.served);
  EXPECT_EQ(of_agent.attempt, "2");
}

TEST(MeetingPlace, OfSeveralMachinesMustBeGiven) {
  try {
    place({}, {Launcher::Srun, 1, 4, 1, 0});
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::Usage);
    EXPECT_THAT(e.what(), ::testing::HasSubstr("MASTER_ADDR=$(scontrol show hostnames"));
  }
  EXPECT_THROW(place({{"MASTER_ADDR", "a"}, {"MASTER_PORT", "65536"}}, {}), Error);
  EXPECT_THROW(place({{"MASTER_ADDR", "a"}, {"MASTER_PORT", "http"}}, {}), Error);
}

TEST(GpuOfRank, IsItsNumberOnTheMachineOrTheOnlyOne) {
  const Launch third = {Launcher::Torchrun, 6, 8, 2, 4};
  EXPECT_EQ(gpu_of_rank(third, 4), 2);
  EXPECT_EQ(gpu_of_rank(third, 1), 0);
  EXPECT_THROW(gpu_of_rank(third, 2), Error);
  EXPECT_EQ(gpu_of_rank({}, 8), 0);
}

}  // namespace
}  // namespace slmi::comm
