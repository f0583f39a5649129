// A training, evaluation or prediction row, whatever form it had in its file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "slmi/base/json.h"
#include "slmi/text/prompt_builder.h"

namespace slmi::data {

/// One row of a JSONL file in the one form that everything after the reader uses. Fields that a row lacks are empty.
struct Row {
  std::string id;                       // the row's `id`, else "<file stem>-<line>"; unique in its RowSet
  int32_t file = 0;                     // index into RowSet::files
  int64_t line = 0;                     // from 1
  std::vector<text::Message> messages;  // the prompt: a system turn if there is one, then user (and earlier) turns
  bool has_answer = false;              // false only where ReadOptions::targets is Optional
  std::string answer;                   // the target string
  std::string text;                     // the request as its user typed it: the last user message
  std::string intent;
  bool has_slots = false;  // slots {} and no slots at all are different things
  Json slots = Json::object();
  std::vector<std::string> catalog;  // product names shown to the model, in their order
  Json actions;                      // array of objects, or null
  std::string lang, domain, slice;
  bool oos = false;
};

/// A file that rows came from.
struct RowFile {
  std::string path;
  std::string sha256;  // of the file's bytes
  int64_t num_rows = 0;
};

struct RowSet {
  std::vector<Row> rows;
  std::vector<RowFile> files;
};

/// Identity of the data: the file's SHA-256, or of several files the SHA-256 over their hashes in order.
std::string data_hash(const RowSet& set);

/// "file:line" of a row, for messages.
std::string place_of(const RowSet& set, const Row& row);

/// The instruction used for rows with a catalogue when no system text is given.
extern const std::string_view kCatalogInstruction;

/// Content of the system turn: `system_text` for rows without a catalogue (empty: no system turn). With a catalogue:
/// `system_text` (kCatalogInstruction if empty), a line feed and `Products: "A", "B", "C"`. The names are JSON strings
/// so that their tokens are those of the answer: after a bare separator a name's first token would hold the space
/// before it and be another one, which a small model must then learn name by name.
std::string instruction_for(const std::vector<std::string>& catalog, std::string_view system_text);

/// The target of an intent row (formats.md 7.6): the bare label without slots, with slots
/// `{"intent": I, "slots": {...}}` as Python's json.dumps(..., ensure_ascii=False) writes it, slots in the row's order.
std::string intent_answer(std::string_view intent, bool has_slots, const Json& slots);

}  // namespace slmi::data
