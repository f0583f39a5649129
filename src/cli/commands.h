// The subcommands; main.cpp registers them.
#pragma once

#include "runtime.h"

namespace CLI {
class App;
}

namespace slmi::cli {

void add_train(CLI::App& app, Runtime& rt);
void add_eval(CLI::App& app, Runtime& rt);
void add_predict(CLI::App& app, Runtime& rt);
void add_merge(CLI::App& app, Runtime& rt);
void add_quantize(CLI::App& app, Runtime& rt);
void add_study(CLI::App& app, Runtime& rt);
void add_inspect(CLI::App& app, Runtime& rt);
void add_doctor(CLI::App& app, Runtime& rt);
void add_bench(CLI::App& app, Runtime& rt);
void add_bench_kernels(CLI::App& bench, Runtime& rt);
void add_bench_train(CLI::App& bench, Runtime& rt);

}  // namespace slmi::cli
