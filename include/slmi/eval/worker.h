// A model measured in a process of its own: the job file, the process, and its result.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "slmi/eval/measure.h"

namespace slmi::eval {

/// What a worker is told.
struct WorkerJob {
  std::string name;
  std::filesystem::path model;
  RowSource rows;
  model::OpenOptions open;
  MeasureOptions measure;
  int64_t threads = 1;
  std::filesystem::path result;  // the file to write
};
Json to_json(const WorkerJob& job);
/// @throws Error{Input} naming `source` and the key.
WorkerJob worker_job_from_json(const Json& json, const std::string& source);

/// The worker's side: reads the job file, sets the threads, measures, writes the result: a ModelRun, or the error that
/// came. Progress stages begin with the model's name. Does not throw for what went wrong in the measuring: that is in
/// the result.
/// @throws Error{Input} for a bad job file, Error{Output} if the result cannot be written.
void run_worker(const std::filesystem::path& job_file, const MeasureHooks& hooks);

/// The parent's side: starts `command` + {job file}, waits, reads the result. Files of the exchange lie in `scratch`
/// and are removed. A signal that arrives here is passed on.
/// @throws Error of the worker's kind with "model 'NAME': " before its message; Error{Internal} saying how the process
/// ended if
///         it left no result (Error{Device} where the system killed it: memory).
ModelRun run_in_process(const WorkerJob& job, const std::vector<std::string>& command,
                        const std::filesystem::path& scratch, const std::atomic<int>* signal);

}  // namespace slmi::eval
