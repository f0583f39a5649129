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

/// Which of the `visible` GPUs of its machine a rank takes: its number there, or the only one, where the launcher shows
/// each rank one of its own. @throws Error{Usage} if there is none for it.
int64_t gpu_of_rank(const Launch& launch, int64_t visible);

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

/// Where ranks find each other before NCCL can: a TCP port.
struct MeetingPlace {
  std::string host;
  uint16_t port = 0;    // 0: any that is free, for a rank that expects no other
  bool served = false;  // the launcher answers there already; otherwise rank 0 does
  std::string attempt;  // sets this start of the job apart from an earlier one at the same port
};

/// MASTER_ADDR and MASTER_PORT, as torchrun sets them. Where they are not set: this machine, if all ranks run on it,
/// and port 29500, as libtorch's own programs do. TORCHELASTIC_USE_AGENT_STORE and TORCHELASTIC_RESTART_COUNT are
/// torchrun's too.
/// @throws Error{Usage} if ranks run on several machines, or the launcher does not say, and no address is given; for a
/// port that is none.
MeetingPlace read_meeting_place(const Environment& get, const Launch& launch);

}  // namespace slmi::comm
