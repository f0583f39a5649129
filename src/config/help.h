// --help of a command whose flags come from a field list; also where parse_or_fail finds that list again.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <string>

#include "slmi/config/fields.h"

namespace slmi::config {

/// CLI11 asks it for the help text of the command that it was given to.
class HelpFormatter : public CLI::Formatter {
 public:
  void add(const CLI::Option* option, const Field& field, const std::string& default_text);
  void add_other(const CLI::Option* option, const std::string& metavar, const std::string& help);
  void set_schema(Schema schema) { schema_ = std::move(schema); }
  const Schema& schema() const { return schema_; }

  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;

 private:
  struct Entry {
    std::string left, right, group;
  };
  Entry entry_of(const CLI::Option* option) const;

  Schema schema_;
  std::map<const CLI::Option*, Entry> entries_;
};

/// "slmi train": the names from the root to `app`.
std::string full_name(const CLI::App& app);

}  // namespace slmi::config
