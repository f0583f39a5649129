// CLI11's exceptions as slmi::Error, with suggestions; see the header.
#include "slmi/config/command_line.h"

#include <CLI/CLI.hpp>
#include <vector>

#include "help.h"
#include "slmi/base/error.h"
#include "slmi/base/suggest.h"
#include "text.h"

namespace slmi::config {
namespace {

/// The subcommand that was being parsed, or the root.
const CLI::App& deepest(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app : deepest(*chosen.back());
}

std::string see_help(const CLI::App& app) {
  return fmt::format("See {} --help", full_name(app));
}

/// Long names of the options that are not in the schema (--help, --version, --config), without dashes.
std::vector<std::string> other_flags(const CLI::App& app) {
  std::vector<std::string> out;
  for (const auto* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) out.push_back(name);
  }
  return out;
}

std::string unknown_option(const CLI::App& app, const std::string& argument) {
  const auto formatter = std::dynamic_pointer_cast<HelpFormatter>(app.get_formatter());
  const auto typed = argument.substr(0, argument.find('='));
  const auto name = typed.substr(typed.find_first_not_of('-'));
  const auto near = suggest_flag(formatter ? formatter->schema() : Schema{}, other_flags(app), name);
  return fmt::format("{}: no such option{} {}", typed, near.empty() ? "." : did_you_mean(near), see_help(app));
}

std::string unknown_command(const CLI::App& app, const std::string& name) {
  std::vector<std::string> names;
  for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  const auto near = nearest_name(name, names);
  const auto hint = near.empty() ? fmt::format("; the commands are {}.", join(names, ", ")) : did_you_mean(near);
  return fmt::format("{}: no such command{} {}", name, hint, see_help(app));
}

bool is_option(const std::string& argument) {
  return argument.size() > 1 && argument[0] == '-' && argument.find_first_not_of('-') != std::string::npos;
}

/// What `app` itself could not place: a bare word where a command should stand, else all unknown options, else a word.
void find_leftovers(const CLI::App& app, std::vector<std::string>& problems) {
  const auto left = app.remaining();
  const bool has_commands = !app.get_subcommands([](const CLI::App*) { return true; }).empty();
  const bool mistyped = has_commands && app.get_subcommands().empty() && !left.empty() && !is_option(left.front());
  if (mistyped) {
    problems.push_back(unknown_command(app, left.front()));  // what follows are its options: nothing is known of them
    return;
  }
  for (const auto& argument : left) {
    if (is_option(argument)) problems.push_back(unknown_option(app, argument));
  }
  if (problems.empty() && !left.empty()) {
    problems.push_back(fmt::format("'{}': this command takes no such argument. {}", left.front(), see_help(app)));
  }
  for (const auto* command : app.get_subcommands()) find_leftovers(*command, problems);
}

/// CLI11's message on a wrong number of values, in our words: it starts with the option's name.
std::string wrong_count(const std::string& what) {
  const auto name = what.substr(0, what.find(':'));
  if (what.find("missing") != std::string::npos) return name + " needs a value";
  if (what.find("ost 1 required but") != std::string::npos) return name + " stands more than once; give it once";
  return what;
}

}  // namespace

CLI::App& add_command(CLI::App& parent, const std::string& name, const std::string& summary,
                      const std::string& example) {
  CLI::App* command = parent.add_subcommand(name, summary);
  command->footer("Example:\n  " + example);
  return *command;
}

void set_action(CLI::App& command, std::function<void()> action) {
  command.callback(std::move(action));
}

void require_subcommand(CLI::App& command) {
  command.require_subcommand(1);
}

void add_hidden_option(CLI::App& command, const std::string& flag, std::string& text) {
  command.add_option(flag, text)->group("");
}

std::optional<std::string> parse_or_fail(CLI::App& app, int argc, const char* const* argv) {
  try {
    app.parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::CallForHelp&) {
    return app.help();
  } catch (const CLI::CallForAllHelp&) {
    return app.help("", CLI::AppFormatMode::All);
  } catch (const CLI::CallForVersion& e) {
    return std::string(e.what()) + "\n";
  } catch (const CLI::ArgumentMismatch& e) {
    fail(ErrorKind::Usage, "{}. {}", wrong_count(e.what()), see_help(deepest(app)));
  } catch (const CLI::ParseError& e) {
    std::vector<std::string> problems;
    find_leftovers(app, problems);
    if (problems.empty()) problems.push_back(fmt::format("{}. {}", e.what(), see_help(deepest(app))));
    throw Error(ErrorKind::Usage, join(problems, "\n"));
  }
}

}  // namespace slmi::config
