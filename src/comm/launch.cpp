// The launchers' variables; see the header.
#include "slmi/comm/launch.h"

#include <array>
#include <charconv>
#include <cstdlib>

#include "slmi/base/error.h"

namespace slmi::comm {
namespace {

struct Variables {
  Launcher launcher;
  const char *rank, *size, *local_rank, *local_size;
  const char* only_with;  // or null
};

constexpr std::array<Variables, 4> kVariables = {{
    {Launcher::Torchrun, "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", nullptr},
    {Launcher::Mpirun, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE", nullptr},
    {Launcher::Mpirun, "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", nullptr},
    {Launcher::Srun, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE", "SLURM_STEP_ID"},
}};

int64_t number(const Environment& get, const char* variable, const char* beside) {
  const auto text = get(variable);
  require(text.has_value(), ErrorKind::Usage, "{} is set but {} is not; start all ranks with one launcher", beside,
          variable);
  int64_t out = -1;
  const char* end = text->data() + text->size();
  const auto [at, error] = std::from_chars(text->data(), end, out);
  require(error == std::errc() && at == end && out >= 0, ErrorKind::Usage,
          "{}={}: wanted a number from 0 on; start all ranks with one launcher", variable, *text);
  return out;
}

std::optional<Launch> read(const Variables& v, const Environment& get) {
  if (v.only_with != nullptr && !get(v.only_with)) return std::nullopt;
  if (!get(v.rank) && !get(v.size)) return std::nullopt;
  Launch out;
  out.launcher = v.launcher;
  out.rank = number(get, v.rank, v.size);
  out.size = number(get, v.size, v.rank);
  out.local_rank = get(v.local_rank) ? number(get, v.local_rank, v.rank) : out.rank;
  if (get(v.local_size)) out.local_size = number(get, v.local_size, v.rank);
  require(out.rank < out.size, ErrorKind::Usage, "{}={} with {}={}: ranks count from 0 to {}", v.rank, out.rank, v.size,
          out.size, out.size - 1);
  return out;
}

}  // namespace

int64_t gpu_of_rank(const Launch& launch, int64_t visible) {
  if (visible == 1) return 0;
  require(launch.local_rank < visible, ErrorKind::Usage,
          "rank {} is number {} on its machine, where {} GPUs can be seen: start at most {} ranks there", launch.rank,
          launch.local_rank + 1, visible, visible);
  return launch.local_rank;
}

MeetingPlace read_meeting_place(const Environment& get, const Launch& launch) {
  constexpr int64_t kPort = 29500, kMostPorts = 65535;
  MeetingPlace out;
  const bool one_machine = launch.local_size == launch.size || get("SLURM_STEP_NUM_NODES") == "1";
  const auto host = get("MASTER_ADDR");
  require(
      host.has_value() || one_machine || launch.size == 1, ErrorKind::Usage,
      "{} started {} ranks, perhaps on several machines, and MASTER_ADDR does not say where they meet; set it to the "
      "first machine's name on all of them (Slurm: MASTER_ADDR=$(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | "
      "head -n 1))",
      name(launch.launcher), launch.size);
  out.host = host.value_or("127.0.0.1");
  const int64_t free_port = launch.size == 1 ? 0 : kPort;
  const int64_t port = get("MASTER_PORT") ? number(get, "MASTER_PORT", "MASTER_ADDR") : free_port;
  require(port <= kMostPorts, ErrorKind::Usage, "MASTER_PORT={}: wanted a TCP port, at most {}", port, kMostPorts);
  out.port = static_cast<uint16_t>(port);
  out.served = get("TORCHELASTIC_USE_AGENT_STORE") == "True";
  out.attempt = get("TORCHELASTIC_RESTART_COUNT").value_or("0");
  return out;
}

const char* name(Launcher launcher) {
  switch (launcher) {
    case Launcher::None:
      return "no launcher";
    case Launcher::Torchrun:
      return "torchrun";
    case Launcher::Mpirun:
      return "mpirun";
    case Launcher::Srun:
      return "srun";
  }
  return "";
}

std::optional<std::string> environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
}

Launch read_launch(const Environment& get) {
  std::optional<Launch> out;
  const Variables* of = nullptr;
  for (const auto& v : kVariables) {
    const auto found = read(v, get);
    if (!found) continue;
    if (!out) {
      out = found;
      of = &v;
      continue;
    }
    if (of->launcher != Launcher::Torchrun) continue;  // Slurm's variables inside mpirun name its daemons
    require(found->rank == out->rank, ErrorKind::Usage,
            "{}={} but {}={}: two launchers disagree; unset one's variables", of->rank, out->rank, v.rank, found->rank);
    require(found->size == out->size, ErrorKind::Usage,
            "{}={} but {}={}: two launchers disagree; unset one's variables", of->size, out->size, v.size, found->size);
    out->launcher = found->launcher;  // who exports RANK for its ranks started them
    of = &v;
  }
  return out.value_or(Launch{});
}

}  // namespace slmi::comm
