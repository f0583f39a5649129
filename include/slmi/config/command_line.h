// Parsing of the process's command line: CLI11's exceptions become slmi::Error with suggestions.
#pragma once

#include <optional>
#include <string>

namespace CLI {
class App;
}

namespace slmi::config {

/// Parses the command line, which runs the chosen subcommand's callback.
/// @returns the text to print on standard output if --help or --version was asked for (no callback has run then).
/// @throws Error{Usage} for unknown options and subcommands ("--lora-ranks: no such option; did you mean --lora-rank?
///         See slmi train --help"), missing values and the like; whatever a callback throws passes through.
std::optional<std::string> parse_or_fail(CLI::App& app, int argc, const char* const* argv);

}  // namespace slmi::config
