// Pre-tokenizers: cut text into the pieces inside which byte pairs are merged. Each is its pattern written out by hand,
// one pass over the code points.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "unicode_class.h"

namespace slmi::text {

enum class SplitPattern {
  Llama3,  // kLlama3Pattern
  Gpt2,    // kGpt2Pattern
  SmolLm,  // every \p{N} by itself, then kGpt2Pattern on what lies between
};

inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// "llama3", "gpt2", "smollm": the names in hashes and messages.
std::string_view split_pattern_name(SplitPattern pattern);

/// Scans valid UTF-8 for one pattern; next() gives the end of the piece that begins at `p`.
template <SplitPattern Pattern>
class Splitter {
 public:
  explicit Splitter(std::string_view text)
      : end_(reinterpret_cast<const uint8_t*>(text.data()) + text.size()),
        table_(Pattern == SplitPattern::SmolLm ? ClassTable::with_new_digits() : ClassTable::standard()) {}

  const uint8_t* next(const uint8_t* p) const {
    if constexpr (Pattern == SplitPattern::Llama3) return next_llama3(p);
    return next_gpt2(p);
  }

 private:
  struct Char {
    CharClass kind;
    uint32_t length;
  };
  struct Run {
    const uint8_t* end;
    const uint8_t* last;           // where the run's last character begins
    const uint8_t* after_newline;  // behind its last \r or \n; nullptr if it has none
  };

  Char read(const uint8_t* p) const {
    if (*p < 0x80) return {table_.at_ascii(*p), 1};
    const CodePoint c = decode_utf8(p);
    return {table_.at(c.value), c.length};
  }

  const uint8_t* skip(const uint8_t* p, CharClass kind) const {
    while (p < end_) {
      const Char c = read(p);
      if (c.kind != kind) break;
      p += c.length;
    }
    return p;
  }

  Run space_run(const uint8_t* p) const {
    Run run{p, p, nullptr};
    while (run.end < end_) {
      const Char c = read(run.end);
      if (c.kind != CharClass::Space) break;
      const bool newline = *run.end == '\n' || *run.end == '\r';
      run.last = run.end;
      run.end += c.length;
      if (newline) run.after_newline = run.end;
    }
    return run;
  }

  /// End of 's 't 'm 'd 're 've 'll at the apostrophe `p`, or nullptr. Without regard to case U+017F, the long s, is an
  /// s too.
  const uint8_t* contraction(const uint8_t* p) const {
    constexpr bool kFold = Pattern == SplitPattern::Llama3;
    const auto left = end_ - p;
    const auto letter = [&](int i) -> uint8_t {
      return i >= left ? uint8_t{0} : kFold && p[i] >= 'A' && p[i] <= 'Z' ? static_cast<uint8_t>(p[i] | 0x20) : p[i];
    };
    const uint8_t a = letter(1), b = letter(2);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return p + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return p + 3;
    if (kFold && a == 0xC5 && b == 0xBF) return p + 3;
    return nullptr;
  }

  const uint8_t* next_llama3(const uint8_t* p) const {
    const Char first = read(p);
    const uint8_t* second = p + first.length;
    if (first.kind == CharClass::Letter) return skip(second, CharClass::Letter);
    if (*p == '\'') {
      if (const uint8_t* end = contraction(p)) return end;
    }
    if (first.kind == CharClass::Number) return up_to_three_numbers(second);
    if (*p != '\r' && *p != '\n' && second < end_) {
      const Char next = read(second);
      if (next.kind == CharClass::Letter) return skip(second + next.length, CharClass::Letter);
      if (*p == ' ' && next.kind == CharClass::Other) return others_and_newlines(second);
    }
    if (first.kind == CharClass::Other) return others_and_newlines(second);
    const Run run = space_run(p);
    if (run.after_newline != nullptr) return run.after_newline;
    return run.end == end_ || run.last == p ? run.end : run.last;
  }

  const uint8_t* up_to_three_numbers(const uint8_t* p) const {
    for (int i = 1; i < 3 && p < end_; ++i) {
      const Char c = read(p);
      if (c.kind != CharClass::Number) break;
      p += c.length;
    }
    return p;
  }

  const uint8_t* others_and_newlines(const uint8_t* p) const {
    p = skip(p, CharClass::Other);
    while (p < end_ && (*p == '\r' || *p == '\n')) ++p;
    return p;
  }

  const uint8_t* next_gpt2(const uint8_t* p) const {
    constexpr bool kDigitsAlone = Pattern == SplitPattern::SmolLm;
    if (*p == '\'') {
      if (const uint8_t* end = contraction(p)) return end;
    }
    const uint8_t* start = *p == ' ' && p + 1 < end_ ? p + 1 : p;
    const Char c = read(start);
    if (kDigitsAlone && c.kind == CharClass::Number && start == p) return p + c.length;
    if (c.kind != CharClass::Space && !(kDigitsAlone && c.kind == CharClass::Number)) {
      return skip(start + c.length, c.kind);
    }
    const Run run = space_run(p);
    // Where digits stand alone, the text between them was cut off first: white space before one is at an end.
    const bool at_end = run.end == end_ || (kDigitsAlone && read(run.end).kind == CharClass::Number);
    return at_end || run.last == p ? run.end : run.last;
  }

  const uint8_t* end_;
  const ClassTable& table_;
};

/// Calls emit(piece) for every piece of `text`, in order; together they are the whole text.
template <SplitPattern Pattern, class Emit>
void split_with(std::string_view text, Emit&& emit) {
  const Splitter<Pattern> splitter(text);
  const auto* p = reinterpret_cast<const uint8_t*>(text.data());
  const auto* end = p + text.size();
  while (p < end) {
    const uint8_t* next = splitter.next(p);
    emit(std::string_view(reinterpret_cast<const char*>(p), static_cast<size_t>(next - p)));
    p = next;
  }
}

template <class Emit>
void split(SplitPattern pattern, std::string_view text, Emit&& emit) {
  switch (pattern) {
    case SplitPattern::Llama3:
      return split_with<SplitPattern::Llama3>(text, emit);
    case SplitPattern::Gpt2:
      return split_with<SplitPattern::Gpt2>(text, emit);
    case SplitPattern::SmolLm:
      return split_with<SplitPattern::SmolLm>(text, emit);
  }
}

}  // namespace slmi::text
