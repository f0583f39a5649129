// Small text helpers of the config module.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "slmi/base/json.h"
#include "slmi/config/fields.h"

namespace slmi::config {

/// Shortest form that reads back: "16", "0.0002", "1e-05".
std::string number_text(double value);

std::string join(const std::vector<std::string>& items, std::string_view separator);

/// A value as people type it: strings without quotes, lists with commas, nothing as "-".
std::string value_text(const Json& value);

/// "max-seq-len" for "max_seq_len", and the other way round.
std::string with_dashes(std::string name);
std::string with_underscores(std::string name);

/// "--gguf or --gptq", of keys that the schema has.
std::string flags_text(const Schema& schema, const std::vector<std::string>& keys);

/// The key (or flag, with `--`) that someone who typed `name` probably meant, or "".
std::string suggest_key(const Schema& schema, const std::string& name);
std::string suggest_flag(const Schema& schema, const std::vector<std::string>& other_flags, const std::string& name);

/// All problems in one message, one a line. @throws Error{Usage} unless there are none.
void fail_if_any(const std::vector<std::string>& problems);

/// What a file or a flag said of a field.
struct Given {
  std::string place;     // for messages: "c.json:3: lora.rank", "--lora-rank"
  bool matters = false;  // a flag, or a file's value that was not there before: resolved files name every field
};
using GivenKeys = std::map<std::string, Given>;

/// Parses the text over `config`, adds problems, and the keys it set to `given`. Does not look for missing ones.
/// Throws Error{Usage} at a syntax error, since nothing after it can be trusted.
void read_file_text(const Schema& schema, void* config, std::string_view text, const std::string& source,
                    std::vector<std::string>& problems, GivenKeys& given);

/// Adds a problem for each required field that is still empty; if all is well so far, what the cross-field checks find,
/// and each given field that has no meaning with the switches as they are.
void check_whole(const Schema& schema, const void* config, const GivenKeys& given, std::vector<std::string>& problems);

/// "", or "; did you mean NAME?".
std::string did_you_mean(const std::string& name);

/// The help of a command whose flags were bound. Implemented in help.cpp.
std::string default_text_of(const Field& field, const Json& value);

}  // namespace slmi::config
