// The process that measures one model, from both sides; see the header.
#include "slmi/eval/worker.h"

#include <ATen/Parallel.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include "json_fields.h"
#include "slmi/base/atomic_file.h"
#include "slmi/base/error.h"
#include "slmi/base/parallel.h"

namespace slmi::eval {
namespace {

namespace fs = std::filesystem;

constexpr auto kPollInterval = std::chrono::milliseconds(20);
constexpr int kNoProgram = 127;  // exit status of a child whose exec failed, as in a shell

/// Names of enum values in the job file.
template <class E>
using Names = std::vector<std::pair<E, std::string>>;
const Names<model::BaseFormat> kBaseFormats = {{model::BaseFormat::Auto, "auto"}, {model::BaseFormat::Stored, "stored"},
                                               {model::BaseFormat::NF4, "nf4"},   {model::BaseFormat::BF16, "bf16"},
                                               {model::BaseFormat::F16, "f16"},   {model::BaseFormat::F32, "f32"}};
const Names<ops::Compute> kComputes = {
    {ops::Compute::F32, "f32"}, {ops::Compute::BF16, "bf16"}, {ops::Compute::F16, "f16"}};
const Names<at::ScalarType> kTypes = {{at::kFloat, "f32"}, {at::kBFloat16, "bf16"}, {at::kHalf, "f16"}};
const Names<ops::Residency> kResidencies = {{ops::Residency::Resident, "resident"},
                                            {ops::Residency::Transient, "transient"}};
const Names<ErrorKind> kErrorKinds = {{ErrorKind::Usage, "usage"},           {ErrorKind::Input, "input"},
                                      {ErrorKind::Device, "device"},         {ErrorKind::Numeric, "numeric"},
                                      {ErrorKind::Findings, "findings"},     {ErrorKind::Peer, "peer"},
                                      {ErrorKind::Output, "output"},         {ErrorKind::Interrupted, "interrupted"},
                                      {ErrorKind::Terminated, "terminated"}, {ErrorKind::Internal, "internal"}};

template <class E>
std::string name_of(const Names<E>& names, E value) {
  for (const auto& [known, name] : names)
    if (known == value) return name;
  fail(ErrorKind::Internal, "a value of an enum has no name");
}
template <class E>
E value_of(const Names<E>& names, const std::string& name) {
  for (const auto& [value, known] : names)
    if (known == name) return value;
  fail(ErrorKind::Input, "'{}' is not a name known here", name);
}

/// A field that is an enum in the struct and a name in the JSON.
template <class V, class E>
void named(V& v, const char* key, const Names<E>& names, E& value) {
  std::string name = name_of(names, value);
  v(key, name);
  value = value_of(names, name);
}

}  // namespace

template <class V>
void describe(V& v, RowSource& x) {
  v("files", x.files);
  v("text_field", x.text_field);
  v("answer_field", x.answer_field);
  v("limit", x.limit);
}

template <class V>
void describe(V& v, MeasureOptions& x) {
  v("batch_size", x.batch_size);
  v("max_new_tokens", x.max_new_tokens);
  v("latency_rows", x.latency_rows);
  v("latency_seconds", x.latency_seconds);
  v("batch_sizes", x.batch_sizes);
  v("answer_form", x.answer_form);
  v("prefix_cache", x.prefix_cache);
  v("loss", x.loss);
  v("answers", x.answers);
  v("share", x.share);
  v("shares", x.shares);
}

template <class V>
void describe(V& v, model::OpenOptions& x) {
  v("base", x.base);
  v("template", x.prompt_template);
  v("system", x.system);
  v("tokenizer", x.tokenizer);
  named(v, "base_format", kBaseFormats, x.load.base_format);
  named(v, "compute", kComputes, x.load.policy.compute);
  named(v, "kv", kTypes, x.load.policy.kv);
  named(v, "residency", kResidencies, x.load.residency);
  std::string device = x.load.device.str();
  v("device", device);
  x.load.device = at::Device(device);
}

template <class V>
void describe(V& v, WorkerJob& x) {
  v("name", x.name);
  v("model", x.model);
  v("rows", x.rows);
  v("open", x.open);
  v("measure", x.measure);
  v("threads", x.threads);
  v("result", x.result);
}

Json to_json(const WorkerJob& job) {
  FieldWriter writer;
  WorkerJob copy = job;
  describe(writer, copy);
  return writer.take();
}

WorkerJob worker_job_from_json(const Json& json, const std::string& source) {
  WorkerJob job;
  FieldReader reader(json, source);
  describe(reader, job);
  return job;
}

void run_worker(const fs::path& job_file, const MeasureHooks& hooks) {
  const WorkerJob job = worker_job_from_json(read_json_file(job_file.string()), job_file.string());
  set_num_threads(static_cast<int>(job.threads));
  at::set_num_threads(static_cast<int>(job.threads));
  ops::make_current(job.open.load.device);
  MeasureHooks named_hooks = hooks;
  if (job.measure.share > 0) named_hooks.progress = nullptr;  // one line for all shares
  if (named_hooks.progress)
    named_hooks.progress = [&](const std::string& stage, int64_t done, int64_t total) {
      hooks.progress(job.name + ": " + stage, done, total);
    };
  Json result;
  const auto failed = [&](ErrorKind kind, const std::string& message) {
    result = {{"error", {{"kind", name_of(kErrorKinds, kind)}, {"message", message}}}};
  };
  try {
    result = {{"run", to_json(measure_model(job.name, job.model, job.rows, job.open, job.measure, named_hooks))}};
  } catch (const Error& e) {
    failed(e.kind(), e.what());
  } catch (const std::bad_alloc&) {
    failed(ErrorKind::Device, "out of memory; lower --eval-batch-size, or use a smaller model or --base-format nf4");
  } catch (const std::exception& e) {
    failed(ErrorKind::Internal, e.what());
  }
  write_file_atomically(job.result, result.dump() + "\n");
}

namespace {

/// Removes a file when it goes out of scope.
struct RemovedFile {
  fs::path path;
  ~RemovedFile() {
    std::error_code error;
    fs::remove(path, error);
  }
};

pid_t start(const std::vector<std::string>& command) {
  std::vector<char*> argv;
  for (const auto& argument : command)
    argv.push_back(const_cast<char*>(argument.c_str()));  // execv does not write to them
  argv.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  require(pid >= 0, ErrorKind::Device, "cannot start a process: {}", std::strerror(errno));
  if (pid > 0) return pid;
  // The child, between fork and exec: only system calls. It must not outlive its parent.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(kNoProgram);
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
  ::execv(argv[0], argv.data());
  ::_exit(kNoProgram);
}

/// Waits for the child; a signal that arrives here is passed on, and another one after it. Returns waitpid's status.
int wait_for(pid_t pid, const std::atomic<int>* signal) {
  int passed_on = 0;
  while (true) {
    int status = 0;
    const pid_t done = ::waitpid(pid, &status, WNOHANG);
    if (done == pid) return status;
    require(done == 0 || errno == EINTR, ErrorKind::Internal, "waiting for a process: {}", std::strerror(errno));
    if (const int arrived = signal ? signal->load() : 0; arrived != passed_on) {
      ::kill(pid, arrived);
      passed_on = arrived;
    }
    std::this_thread::sleep_for(kPollInterval);
  }
}

/// How a process ended that left no result.
[[noreturn]] void fail_without_result(const std::string& name, const std::string& program, int status) {
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    if (number == SIGINT) fail(ErrorKind::Interrupted, "model '{}': interrupted", name);
    if (number == SIGTERM) fail(ErrorKind::Terminated, "model '{}': terminated", name);
    if (number == SIGKILL)
      fail(ErrorKind::Device,
           "model '{}': its process was killed (signal 9): most often for memory; use a smaller model or --base-format "
           "nf4",
           name);
    fail(ErrorKind::Internal,
         "model '{}': its process crashed (signal {}, {}); the other models are not affected, leave it out", name,
         number, ::strsignal(number));
  }
  require(WEXITSTATUS(status) != kNoProgram, ErrorKind::Internal, "model '{}': cannot start {}", name, program);
  fail(ErrorKind::Internal, "model '{}': its process ended with status {} and left no result", name,
       WEXITSTATUS(status));
}

}  // namespace

ModelRun run_in_process(const WorkerJob& given, const std::vector<std::string>& command, const fs::path& scratch,
                        const std::atomic<int>* signal) {
  require(!command.empty(), ErrorKind::Internal, "no command for the worker");
  WorkerJob job = given;
  const RemovedFile job_file{scratch / fmt::format("worker-{}.job.json", ::getpid())};
  const RemovedFile result_file{scratch / fmt::format("worker-{}.result.json", ::getpid())};
  job.result = result_file.path;
  std::error_code error;
  fs::remove(job.result, error);
  write_file_atomically(job_file.path, to_json(job).dump(2) + "\n");
  std::vector<std::string> arguments = command;
  arguments.push_back(job_file.path.string());
  const int status = wait_for(start(arguments), signal);
  if (!fs::exists(job.result)) fail_without_result(job.name, command.front(), status);
  const Json result = read_json_file(job.result.string());
  if (result.contains("error")) {
    const Json& e = result["error"];
    throw Error(value_of(kErrorKinds, e.value("kind", "internal")),
                fmt::format("model '{}': {}", job.name, e.value("message", "")));
  }
  require(result.contains("run"), ErrorKind::Internal, "model '{}': its process wrote no run", job.name);
  return model_run_from_json(result["run"], job.result.string());
}

}  // namespace slmi::eval
