// The event handler behind parse_tokenizer_json.
#include "slmi/base/error.h"
#include "slmi/base/json.h"
#include "tokenizer_json.h"

namespace slmi::text {
namespace {

constexpr size_t kMaxDepth = 32;

/// Builds the tree, and diverts what stands in model.vocab and model.merges.
class Handler : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Handler(TokenizerJson& out) : out_(out) {}

  /// What was wrong, if parsing stopped, and at which byte (0: unknown).
  const std::string& problem() const { return problem_; }
  size_t problem_byte() const { return problem_byte_; }

  bool null() override { return value(nullptr); }
  bool boolean(bool v) override { return value(v); }
  bool number_float(double v, const std::string&) override { return value(v); }
  bool binary(binary_t&) override { return stop("binary data"); }
  bool number_unsigned(uint64_t v) override {
    return number_integer(v > INT64_MAX ? INT64_MAX : static_cast<int64_t>(v));
  }
  bool number_integer(int64_t v) override {
    if (place_ != Place::Vocab) return value(v);
    out_.vocab.emplace_back(std::move(vocab_key_), v);
    return true;
  }

  bool string(std::string& v) override {
    if (place_ == Place::Merges) {
      const size_t space = v.find(' ', 1);
      if (space == std::string::npos) return stop("merge \"" + v + "\" is not two tokens with a space between");
      out_.merges.emplace_back(v.substr(0, space), v.substr(space + 1));
      return true;
    }
    if (place_ == Place::MergePair) {
      pair_.push_back(std::move(v));
      return true;
    }
    return value(std::move(v));
  }

  bool key(std::string& k) override {
    if (place_ == Place::Vocab) {
      vocab_key_ = std::move(k);
      return true;
    }
    if (stack_.back()->contains(k)) return stop("key \"" + k + "\" stands twice");
    key_ = std::move(k);
    return true;
  }

  bool start_object(size_t) override {
    if (place_ != Place::Tree) return stop("an object inside the vocabulary or the merges list");
    if (in_model() && key_ == "vocab") {
      (*stack_.back())["vocab"] = nullptr;
      place_ = Place::Vocab;
      return true;
    }
    return open(nlohmann::json::object());
  }
  bool start_array(size_t) override {
    if (place_ == Place::Merges) {
      place_ = Place::MergePair;
      pair_.clear();
      return true;
    }
    if (place_ != Place::Tree) return stop("an array inside the vocabulary or a merge");
    if (in_model() && key_ == "merges") {
      (*stack_.back())["merges"] = nullptr;
      place_ = Place::Merges;
      return true;
    }
    return open(nlohmann::json::array());
  }
  bool end_object() override {
    if (place_ == Place::Vocab) {
      place_ = Place::Tree;
    } else {
      stack_.pop_back();
    }
    return true;
  }
  bool end_array() override {
    if (place_ == Place::MergePair) {
      if (pair_.size() != 2) return stop("a merge of " + std::to_string(pair_.size()) + " tokens; it has two");
      out_.merges.emplace_back(std::move(pair_[0]), std::move(pair_[1]));
      place_ = Place::Merges;
    } else if (place_ == Place::Merges) {
      place_ = Place::Tree;
    } else {
      stack_.pop_back();
    }
    return true;
  }

  bool parse_error(size_t byte, const std::string&, const nlohmann::json::exception& e) override {
    const std::string what = e.what();
    const size_t at = what.find(": ");
    problem_ = "not valid JSON: " + (at == std::string::npos ? what : what.substr(at + 2));
    problem_byte_ = byte;
    return false;
  }

 private:
  enum class Place { Tree, Vocab, Merges, MergePair };

  bool stop(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }
  /// True where a key of the object "model" is being read.
  bool in_model() const { return stack_.size() == 2 && at_model_; }

  bool value(nlohmann::json v) {
    if (place_ != Place::Tree) {
      return stop(place_ == Place::Vocab ? "the vocabulary's ids are whole numbers" : "a merge is text");
    }
    put(std::move(v));
    return true;
  }
  nlohmann::json* put(nlohmann::json v) {
    if (stack_.empty()) {
      out_.rest = std::move(v);
      return &out_.rest;
    }
    nlohmann::json& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return &parent.back();
    }
    return &(parent[key_] = std::move(v));
  }
  bool open(nlohmann::json v) {
    if (stack_.size() >= kMaxDepth) return stop("nested deeper than " + std::to_string(kMaxDepth) + " levels");
    if (stack_.size() == 1) at_model_ = stack_.back()->is_object() && key_ == "model" && v.is_object();
    stack_.push_back(put(std::move(v)));
    return true;
  }

  TokenizerJson& out_;
  Place place_ = Place::Tree;
  std::vector<nlohmann::json*> stack_;  // parents stay where they are: only the innermost one grows
  bool at_model_ = false;
  std::string key_, vocab_key_, problem_;
  std::vector<std::string> pair_;
  size_t problem_byte_ = 0;
};

}  // namespace

TokenizerJson parse_tokenizer_json(std::string_view text, const std::string& source) {
  TokenizerJson out;
  Handler handler(out);
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &handler)) {
    if (handler.problem_byte() == 0) fail(ErrorKind::Input, "{}: {}", source, handler.problem());
    const auto at = position_of(text, handler.problem_byte() - 1);
    fail(ErrorKind::Input, "{}:{}:{}: {}", source, at.line, at.column, handler.problem());
  }
  return out;
}

}  // namespace slmi::text
