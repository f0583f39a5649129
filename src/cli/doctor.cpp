// slmi doctor: what of this machine can be used, and what stands in the way. The checks are in doctor_checks.cpp.
#include <iostream>

#include "commands.h"
#include "doctor_checks.h"
#include "slmi/base/error.h"
#include "slmi/config/command_line.h"
#include "version_text.h"

namespace slmi::cli {
namespace {

struct DoctorConfig {
  bool probe = true;
  bool json = false;
  int64_t threads = 0;

  template <class V>
  static void fields(V&& field) {
    using namespace config;
    using T = DoctorConfig;
    field("probe", &T::probe, "Measure products and memory (about two seconds)");
    field("json", &T::json, "One JSON object instead of text");
    field("threads", &T::threads, AtLeast{0}, "CPU threads of the measurements (0: all)");
  }
};

const char* state_name(Finding::State state) {
  switch (state) {
    case Finding::State::Ok:
      return "ok";
    case Finding::State::Note:
      return "note";
    case Finding::State::Broken:
      break;
  }
  return "BROKEN";
}

Json to_json(const std::vector<Finding>& findings) {
  Json list = Json::array();
  for (const auto& f : findings)
    list.push_back({{"subject", f.subject}, {"state", state_name(f.state)}, {"text", f.text}, {"remedy", f.remedy}});
  return {{"version", version_text()}, {"findings", list}};
}

void run_doctor(const DoctorConfig& config, Runtime& rt) {
  choose_threads(config.threads);
  const auto findings = examine_machine(config.probe ? Probes::Run : Probes::Skip);
  std::vector<std::string> broken;
  for (const auto& f : findings)
    if (f.state == Finding::State::Broken) broken.push_back(f.subject);
  if (config.json) {
    rt.out << to_json(findings).dump(2) << "\n";
  } else {
    rt.out << version_text() << "\n\n";
    for (const auto& f : findings) {
      rt.out << fmt::format("{:<7} {:<11} {}\n", state_name(f.state), f.subject, f.text);
      if (!f.remedy.empty()) rt.out << fmt::format("{:20}{}\n", "", f.remedy);
    }
    if (broken.empty()) rt.out << "\nnext:\n  tools/quickstart\n  slmi train --help\n";
  }
  rt.out << std::flush;
  require(broken.empty(), ErrorKind::Findings, "broken: {}; what to do stands above", fmt::join(broken, ", "));
}

}  // namespace

void add_doctor(CLI::App& app, Runtime& rt) {
  CLI::App& command = config::add_command(
      app, "doctor", "What of this machine slmi can use, and what stands in the way", "slmi doctor");
  auto binding = config::bind<DoctorConfig>(command);
  config::set_action(command, [binding, &rt] { run_doctor(binding->resolve(), rt); });
}

}  // namespace slmi::cli
