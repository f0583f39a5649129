// slmi: registers the subcommands, parses, and turns errors into one message and an exit code. Nothing else.
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <new>

#include "commands.h"
#include "ranks.h"
#include "runtime.h"
#include "slmi/base/error.h"
#include "slmi/base/log.h"
#include "slmi/config/command_line.h"
#include "version_text.h"

namespace {

std::atomic<int> g_signal{0};

/// The first signal asks for a clean stop; a second one of the same kind ends the process at once.
void on_signal(int signal) {
  g_signal = signal;
  std::signal(signal, SIG_DFL);
}

int run(int argc, char** argv) {
  using namespace slmi;
  std::string command_line = "slmi";
  for (int i = 1; i < argc; ++i) command_line += " " + cli::shell_quoted(argv[i]);
  cli::Runtime rt{std::cout, std::cerr, command_line, g_signal};
  CLI::App app("Small language models for intent: train, evaluate, quantize and run them on your own hardware", "slmi");
  app.require_subcommand(1);
  app.set_version_flag("--version", cli::version_text());
  cli::add_train(app, rt);
  cli::add_eval(app, rt);
  cli::add_predict(app, rt);
  cli::add_merge(app, rt);
  cli::add_quantize(app, rt);
  cli::add_study(app, rt);
  cli::add_inspect(app, rt);
  cli::add_doctor(app, rt);
  cli::add_bench(app, rt);
  if (const auto text = config::parse_or_fail(app, argc, argv)) std::cout << *text << std::flush;
  return 0;
}

}  // namespace

/// Activations are freed and allocated again thousands of times a minute: kept in the heap, their pages are not
/// returned to the system and faulted in again each time, which costs a tenth of a training step.
static void keep_freed_memory() {
  constexpr int kOneGiB = 1 << 30;
  mallopt(M_MMAP_THRESHOLD, kOneGiB);
  mallopt(M_TRIM_THRESHOLD, kOneGiB);
  mallopt(M_TOP_PAD, 16 << 20);
}

int main(int argc, char** argv) {
  keep_freed_memory();
  slmi::start_logging(slmi::LogLevel::Normal);
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return run(argc, argv);
  } catch (const slmi::Error& e) {
    std::cout << std::flush;
    std::cerr << fmt::format("slmi: {}{}\n", slmi::cli::rank_prefix(), e.what());
    // Threads and GPU work that wait for a lost rank have no end: the process is not unwound through them.
    if (e.kind() == slmi::ErrorKind::Peer) std::_Exit(slmi::exit_code(e.kind()));
    return slmi::exit_code(e.kind());
  } catch (const c10::OutOfMemoryError& e) {
    std::cerr << "slmi: " << slmi::cli::out_of_memory_text(e) << "; use less at once, or a smaller model\n";
    return slmi::exit_code(slmi::ErrorKind::Device);
  } catch (const std::bad_alloc&) {
    std::cerr << "slmi: out of memory; lower --micro-tokens or --batch-size, or use a smaller model\n";
    return slmi::exit_code(slmi::ErrorKind::Device);
  } catch (const std::exception& e) {
    std::cerr << "slmi: internal error: " << e.what() << "\n";
    return slmi::exit_code(slmi::ErrorKind::Internal);
  }
}
