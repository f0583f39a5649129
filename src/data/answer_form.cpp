// Learning, writing and reading answer forms; see the header. Matching is in answer_check.cpp.
#include "slmi/data/answer_form.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>

#include "slmi/base/error.h"

namespace slmi::data {
namespace {

// A word is taken for one of a closed set only if the set was seen often: a name that stood there once says nothing of
// the next one.
constexpr int64_t kUsesOfAWord = 8;
constexpr size_t kMaxWords = 512;

const std::vector<std::pair<TextForm, std::string>> kTextForms = {
    {TextForm::Closed, "closed"}, {TextForm::Shown, "shown"}, {TextForm::Copied, "copied"}, {TextForm::Any, "any"}};

bool is_word_letter(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x80U || std::isalnum(byte) != 0;
}

bool has_whole(std::string_view text, std::string_view part) {
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1))
    if (begins_a_word(text, at) && ends_a_word(text, at, part.size())) return true;
  return false;
}

bool is_closed_set(int64_t uses, size_t words) {
  return words <= kMaxWords && uses >= kUsesOfAWord * static_cast<int64_t>(words);
}

/// Everything seen in one place, and in the places below it.
struct Seen {
  ValueForm form;  // all but text, words and what is below
  std::map<std::string, int64_t> words;
  int64_t texts = 0, objects = 0;
  bool all_shown = true, all_copied = true, all_whole = true;
  std::vector<std::string> order;  // keys of the first object
  bool same_order = true;
  struct Below {
    std::string name;
    int64_t objects = 0;
    std::unique_ptr<Seen> seen;
  };
  std::vector<Below> keys;
  std::unique_ptr<Seen> item;

  Below& key(const std::string& name) {
    const auto found = std::find_if(keys.begin(), keys.end(), [&](const Below& k) { return k.name == name; });
    if (found != keys.end()) return *found;
    keys.push_back({name, 0, std::make_unique<Seen>()});
    return keys.back();
  }

  void add_text(const std::string& value, const Row& row) {
    ++texts;
    if (words.size() <= kMaxWords) ++words[value];
    all_shown = all_shown && std::find(row.catalog.begin(), row.catalog.end(), value) != row.catalog.end();
    all_copied = all_copied && !value.empty() && row.text.find(value) != std::string::npos;
    all_whole = all_whole && all_copied && has_whole(row.text, value);
  }

  void add(const Json& value, const Row& row) {
    if (value.is_string()) return add_text(value.get<std::string>(), row);
    form.null |= value.is_null();
    form.boolean |= value.is_boolean();
    form.integer |= value.is_number_integer();
    form.decimal |= value.is_number_float();
    if (value.is_array()) {
      form.max_items = std::max(form.max_items, static_cast<int64_t>(value.size()));
      if (!item) item = std::make_unique<Seen>();
      for (const auto& element : value) item->add(element, row);
    }
    if (!value.is_object()) return;
    std::vector<std::string> names;
    for (const auto& [name, below] : value.items()) {
      names.push_back(name);
      Below& k = key(name);
      ++k.objects;
      k.seen->add(below, row);
    }
    if (objects++ == 0) order = names;
    same_order = same_order && names == order;
  }

  ValueForm finish() const {
    ValueForm out = form;
    if (texts > 0) {
      out.text = all_shown                            ? TextForm::Shown
                 : all_copied                         ? TextForm::Copied
                 : is_closed_set(texts, words.size()) ? TextForm::Closed
                                                      : TextForm::Any;
      out.whole_words = out.text == TextForm::Copied && all_whole;
      if (out.text != TextForm::Shown && is_closed_set(texts, words.size()))
        for (const auto& [word, uses] : words) out.words.push_back(word);
    }
    out.object = objects > 0;
    out.keys_fixed = objects > 0 && same_order;
    for (const Below& k : keys) out.keys.push_back({k.name, {}, k.objects == objects, k.seen->finish()});
    if (item && out.max_items > 0) out.item.push_back(item->finish());
    return out;
  }
};

/// Fills in what matching would else make anew for each token.
void prepare(ValueForm& form) {
  form.quoted_words.clear();
  for (const auto& word : form.words) form.quoted_words.push_back(dump_spaced(Json(word)));
  for (auto& key : form.keys) {
    key.opening = dump_spaced(Json(key.name)) + ": ";
    prepare(key.value);
  }
  for (auto& item : form.item) prepare(item);
}

Json value_to_json(const ValueForm& form) {
  Json out = Json::object();
  if (form.null) out["null"] = true;
  if (form.boolean) out["boolean"] = true;
  if (form.integer) out["integer"] = true;
  if (form.decimal) out["decimal"] = true;
  for (const auto& [text, name] : kTextForms)
    if (form.text == text) out["text"] = name;
  if (form.whole_words) out["whole_words"] = true;
  if (!form.words.empty()) out["words"] = form.words;
  if (form.object) {
    out["keys_fixed"] = form.keys_fixed;
    out["keys"] = Json::array();
    for (const auto& key : form.keys)
      out["keys"].push_back({{"name", key.name}, {"required", key.required}, {"value", value_to_json(key.value)}});
  }
  if (form.max_items >= 0) out["max_items"] = form.max_items;
  if (!form.item.empty()) out["item"] = value_to_json(form.item.front());
  return out;
}

/// Reads one object of the form; unknown keys are ignored, so that a later version may say more.
class Reader {
 public:
  Reader(const Json& json, std::string place) : json_(json), place_(std::move(place)) {
    require(json.is_object(), ErrorKind::Input, "{}: not an object", place_);
  }
  const Json* find(const char* key) const { return json_.contains(key) ? &json_[key] : nullptr; }
  bool flag(const char* key) const {
    const Json* value = find(key);
    if (value == nullptr) return false;
    require(value->is_boolean(), ErrorKind::Input, "{}.{}: not true or false", place_, key);
    return value->get<bool>();
  }
  std::string text(const char* key) const {
    const Json* value = find(key);
    if (value == nullptr) return {};
    require(value->is_string(), ErrorKind::Input, "{}.{}: not a text", place_, key);
    return value->get<std::string>();
  }
  std::vector<std::string> texts(const char* key) const {
    const Json* value = find(key);
    if (value == nullptr) return {};
    const bool good =
        value->is_array() && std::all_of(value->begin(), value->end(), [](const Json& v) { return v.is_string(); });
    require(good, ErrorKind::Input, "{}.{}: not a list of texts", place_, key);
    return value->get<std::vector<std::string>>();
  }
  ValueForm value() const {
    ValueForm form;
    form.null = flag("null");
    form.boolean = flag("boolean");
    form.integer = flag("integer");
    form.decimal = flag("decimal");
    const std::string name = text("text");
    for (const auto& [known, known_name] : kTextForms)
      if (name == known_name) form.text = known;
    require(name.empty() || form.text != TextForm::None, ErrorKind::Input,
            "{}.text: '{}' is none of closed, shown, copied, any", place_, name);
    form.words = texts("words");
    form.whole_words = flag("whole_words");
    require(form.text != TextForm::Closed || !form.words.empty(), ErrorKind::Input,
            "{}.words: missing; 'text': 'closed' needs them", place_);
    read_keys(form);
    if (const Json* items = find("max_items")) {
      require(items->is_number_integer() && items->get<int64_t>() >= 0, ErrorKind::Input,
              "{}.max_items: not a number from 0 on", place_);
      form.max_items = items->get<int64_t>();
    }
    if (const Json* item = find("item")) form.item.push_back(Reader(*item, place_ + ".item").value());
    require(form.max_items <= 0 || !form.item.empty(), ErrorKind::Input, "{}.item: missing", place_);
    return form;
  }

 private:
  void read_keys(ValueForm& form) const {
    const Json* keys = find("keys");
    if (keys == nullptr) return;
    require(keys->is_array(), ErrorKind::Input, "{}.keys: not a list", place_);
    form.object = true;
    form.keys_fixed = flag("keys_fixed");
    for (const auto& entry : *keys) {
      const Reader key(entry, fmt::format("{}.keys[{}]", place_, form.keys.size()));
      const Json* value = key.find("value");
      require(value != nullptr, ErrorKind::Input, "{}.value: missing", key.place_);
      form.keys.push_back({key.text("name"), {}, key.flag("required"), Reader(*value, key.place_ + ".value").value()});
    }
  }
  const Json& json_;
  std::string place_;
};

std::string describe_value(const ValueForm& form) {
  constexpr size_t kMaxShown = 6;
  std::string out;
  for (const auto& key : form.keys) {
    if (&key == form.keys.data() + kMaxShown) {
      out += fmt::format(" and {} more", form.keys.size() - kMaxShown);
      break;
    }
    if (!out.empty()) out += ", ";
    out += key.name;
    if (key.value.text == TextForm::Closed && key.value.words.size() > 1)
      out += fmt::format(" (one of {})", key.value.words.size());
    if (key.value.text == TextForm::Shown) out += " (as shown)";
    if (key.value.text == TextForm::Copied) out += " (as in the request)";
    if (key.value.object) out += fmt::format(" {{{}}}", describe_value(key.value));
  }
  if (!form.item.empty()) out += (out.empty() ? "" : " or ") + fmt::format("[{}]", describe_value(form.item.front()));
  return out;
}

}  // namespace

bool begins_a_word(std::string_view text, size_t begin) {
  if (begin >= text.size() || text[begin] == ' ') return false;
  return begin == 0 || !is_word_letter(text[begin - 1]) || !is_word_letter(text[begin]);
}

bool ends_a_word(std::string_view text, size_t begin, size_t size) {
  const size_t end = begin + size;
  if (size == 0 || text[end - 1] == ' ') return false;
  return end == text.size() || !is_word_letter(text[end]) || !is_word_letter(text[end - 1]);
}

Json AnswerForm::to_json() const {
  return labels.empty() ? Json{{"json", value_to_json(value)}} : Json{{"labels", labels}};
}

AnswerForm AnswerForm::from_json(const Json& json, const std::string& source) {
  const std::string place = source + ": answer_form";
  const Reader reader(json, place);
  AnswerForm form;
  form.labels = reader.texts("labels");
  const Json* value = reader.find("json");
  require(form.labels.empty() == (value != nullptr), ErrorKind::Input, "{}: has neither labels nor json, or both",
          place);
  if (value != nullptr) form.value = Reader(*value, place + ".json").value();
  prepare(form.value);
  return form;
}

std::string AnswerForm::describe() const {
  return labels.empty() ? "JSON with " + describe_value(value) : fmt::format("one of {} labels", labels.size());
}

std::optional<AnswerForm> learn_answer_form(const std::vector<Row>& rows) {
  Seen seen;
  std::map<std::string, int64_t> labels;
  size_t structured = 0;
  for (const Row& row : rows) {
    const Json value = Json::parse(row.answer, nullptr, /*allow_exceptions=*/false);
    if (value.is_structured() && dump_spaced(value) == row.answer) {
      ++structured;
      seen.add(value, row);
    } else {
      if (labels.size() > kMaxWords) return std::nullopt;
      ++labels[row.answer];
    }
  }
  AnswerForm form;
  if (!rows.empty() && structured == rows.size()) {
    form.value = seen.finish();
    prepare(form.value);
    return form;
  }
  if (rows.empty() || structured > 0 || !is_closed_set(static_cast<int64_t>(rows.size()), labels.size()))
    return std::nullopt;
  for (const auto& [label, uses] : labels) form.labels.push_back(label);
  return form;
}

}  // namespace slmi::data
