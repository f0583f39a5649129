// JSONL in, rows out: every problem of the files in one report.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "slmi/data/row.h"

namespace slmi::data {

/// Whether a row must say what the right answer is.
enum class Targets { Required, Optional };

struct ReadOptions {
  std::string text_field = "text";      // the request of an intent row
  std::string answer_field = "answer";  // its target string, if it has one
  std::string system_text = {};         // system turn of rows that bring none of their own; empty: none
  Targets targets = Targets::Required;
};

/// Problems shown in one error; the rest are counted.
inline constexpr int64_t kMaxShownProblems = 50;

/// Reads JSONL files: one JSON object a line, UTF-8, LF or CRLF; lines of nothing but spaces are skipped.
///
/// Accepted rows, told apart by their keys:
///   messages            chat: [{"role": "system|user|assistant", "content": "..."}, ...]. Only the first may be a
///                       system turn; the last, from the assistant, is the target.
///   text_field          intent row. Target: answer_field (a string; an object or array is written out as text), else
///                       intent and slots (see intent_answer). Optional `catalog`, an array of names.
///   prompt, completion  one user turn and its target.
/// Of several, the first in this list counts; a text_field that is not "text" comes before `messages`. Optional in all:
/// id (string or integer), intent, slots (name -> string or array of strings), actions, lang, domain, slice, oos. null
/// counts as absent. Other keys are ignored. A row's own system turn wins over ReadOptions::system_text.
///
/// @throws Error{Input} with all problems of all files, each "file:line:column: what" (the column counts bytes from 1),
///         at most kMaxShownProblems of them and the count: byte-order mark, UTF-16, NUL byte, not JSON, not UTF-8, a
///         key twice, not an object, wrong type, empty text, no target, a repeated id; a file that is missing or has no
///         rows.
RowSet read_rows(std::span<const std::filesystem::path> paths, const ReadOptions& options = {});
RowSet read_rows(const std::filesystem::path& path, const ReadOptions& options = {});

/// The same from memory; `source` names it in messages and in the rows' default ids.
RowSet parse_rows(std::string_view text, const std::string& source, const ReadOptions& options = {});

}  // namespace slmi::data
