// Which process of a job this is, as the launcher's environment says.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace slmi::comm {

enum class Launcher { None, Torchrun, Mpirun, Srun };

struct Launch {
  Launcher launcher = Launcher::None;
  int64_t rank = 0, size = 1;
  int64_t local_rank = 0;  // among the ranks of its machine: the GPU it takes
  int64_t local_size = 0;  // ranks of its machine; 0: the launcher does not say
  bool alone() const { return launcher == Launcher::None; }
};

/// "mpirun", and so on; "no launcher".
const char* name(Launcher launcher);

/// The value of an environment variable, or none.
using Environment = std::function<std::optional<std::string>(const char* name)>;

/// Of this process.
std::optional<std::string> environment(const char* name);

/// From RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE (torchrun); OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK,
/// _LOCAL_SIZE (Open MPI's mpirun), PMI_RANK, PMI_SIZE, MPI_LOCALRANKID, MPI_LOCALNRANKS (MPICH's); SLURM_PROCID,
/// SLURM_STEP_NUM_TASKS, SLURM_LOCALID, SLURM_NTASKS_PER_NODE (srun: only inside a step, SLURM_STEP_ID). mpirun inside
/// a Slurm job is mpirun's. With none of them: one process.
/// @throws Error{Usage} if a variable is missing beside the others, is no number or out of range, or if torchrun's
/// variables and another launcher's disagree.
Launch read_launch(const Environment& get);

}  // namespace slmi::comm
