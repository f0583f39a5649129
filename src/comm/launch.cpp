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
