// Subcommands, and the parsing of the process's command line: CLI11's exceptions become slmi::Error with suggestions.
// Subcommands do without CLI11's header, which every file that includes it pays for.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace CLI {
class App;
}

namespace slmi::config {

/// A new subcommand. @param summary  its line in the parent's help. @param example  the end of its own help.
CLI::App& add_command(CLI::App& parent, const std::string& name, const std::string& summary,
                      const std::string& example);
/// What parse_or_fail runs when the subcommand was chosen.
void set_action(CLI::App& command, std::function<void()> action);
/// One of its own subcommands must be given.
void require_subcommand(CLI::App& command);
/// An option that the help does not name, for what the program tells itself. `text` must outlive the command.
void add_hidden_option(CLI::App& command, const std::string& flag, std::string& text);

/// Parses the command line, which runs the chosen subcommand's callback.
/// @returns the text to print on standard output if --help or --version was asked for (no callback has run then).
/// @throws Error{Usage} for unknown options and subcommands ("--lora-ranks: no such option; did you mean --lora-rank?
///         See slmi train --help"), missing values and the like; whatever a callback throws passes through.
std::optional<std::string> parse_or_fail(CLI::App& app, int argc, const char* const* argv);

}  // namespace slmi::config
