// N-grams, their weights, and stochastic gradient descent; see the header.
#include "reference_scores_classifier.h"

#include <algorithm>
#include <cmath>

#include "reference_scores_text.h"
#include "slmi/base/parallel.h"
#include "slmi/base/random.h"

namespace slmi::data {
namespace {

constexpr size_t kShortest = 3, kLongest = 5;  // characters

enum class GramKind : uint64_t { Word = 1, Characters = 2 };

/// FNV-1a with a final mix; among a million n-grams two equal values have odds of 1 in 10^7.
uint64_t hash_of(std::string_view text, GramKind kind) {
  constexpr uint64_t kPrime = 0x100000001b3u;
  uint64_t hash = (0xcbf29ce484222325u ^ static_cast<uint64_t>(kind)) * kPrime;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * kPrime;
  return splitmix64(hash);
}

/// Byte where each character begins, and the end.
std::vector<size_t> character_starts(std::string_view text) {
  std::vector<size_t> out;
  for (size_t i = 0; i < text.size(); ++i)
    if ((static_cast<unsigned char>(text[i]) & 0xC0u) != 0x80u) out.push_back(i);
  out.push_back(text.size());
  return out;
}

void add_character_grams(const std::string& word, std::vector<uint64_t>& out) {
  const std::string bordered = " " + word + " ";
  const auto starts = character_starts(bordered);
  const size_t n = starts.size() - 1;
  for (size_t length = kShortest; length <= kLongest; ++length)
    for (size_t i = 0; i + length <= n; ++i)
      out.push_back(
          hash_of(std::string_view(bordered).substr(starts[i], starts[i + length] - starts[i]), GramKind::Characters));
}

}  // namespace

/// Distinct n-grams and how often each occurs, sorted by hash: the order of sums must not depend on a hash table's.
struct NgramClassifier::Grams {
  using Counted = std::vector<std::pair<uint64_t, int32_t>>;
  Counted words, characters;

  static Counted counted(std::vector<uint64_t> hashes) {
    std::sort(hashes.begin(), hashes.end());
    Counted out;
    for (const uint64_t hash : hashes) {
      if (out.empty() || out.back().first != hash) out.emplace_back(hash, 0);
      ++out.back().second;
    }
    return out;
  }
};

NgramClassifier::Grams NgramClassifier::grams_of(std::string_view text) {
  std::vector<uint64_t> words, characters;
  std::string before;
  for (const TextToken& token : tokenize_text(text)) {
    if (!token.is_word) continue;
    words.push_back(hash_of(token.text, GramKind::Word));
    if (!before.empty()) words.push_back(hash_of(before + ' ' + token.text, GramKind::Word));
    add_character_grams(token.text, characters);
    before = token.text;
  }
  return {Grams::counted(std::move(words)), Grams::counted(std::move(characters))};
}

NgramClassifier::Vector NgramClassifier::vector_of(const Grams& grams) const {
  Vector out;
  for (const auto* block : {&grams.words, &grams.characters}) {
    const size_t begin = out.size();
    double squares = 0;
    for (const auto& [hash, count] : *block) {
      const auto found = index_.find(hash);
      if (found == index_.end()) continue;
      const float value = (1 + std::log(static_cast<float>(count))) * inverse_df_[static_cast<size_t>(found->second)];
      out.push_back({found->second, value});
      squares += static_cast<double>(value) * value;
    }
    if (squares == 0) continue;
    const auto scale = static_cast<float>(1 / std::sqrt(squares));
    for (size_t i = begin; i < out.size(); ++i) out[i].value *= scale;
  }
  out.push_back({static_cast<int32_t>(inverse_df_.size() - 1), 1.0f});
  return out;
}

NgramClassifier NgramClassifier::fit(std::span<const std::string> texts, std::span<const int32_t> classes,
                                     int32_t num_classes, const BagOfWordsOptions& options) {
  const auto num_rows = static_cast<int64_t>(texts.size());
  std::vector<Grams> grams(texts.size());
  parallel_for(num_rows, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) grams[static_cast<size_t>(i)] = grams_of(texts[static_cast<size_t>(i)]);
  });

  NgramClassifier out;
  out.num_classes_ = num_classes;
  std::unordered_map<uint64_t, int32_t> rows_with;
  for (const auto& row : grams)
    for (const auto* block : {&row.words, &row.characters})
      for (const auto& [hash, count] : *block) ++rows_with[hash];
  for (const auto& row : grams) {  // numbered by first appearance
    for (const auto* block : {&row.words, &row.characters}) {
      for (const auto& [hash, count] : *block) {
        const int32_t df = rows_with.at(hash);
        if (df < options.min_rows || !out.index_.emplace(hash, static_cast<int32_t>(out.inverse_df_.size())).second)
          continue;
        out.inverse_df_.push_back(1 + std::log(static_cast<float>(1 + num_rows) / static_cast<float>(1 + df)));
      }
    }
  }
  out.inverse_df_.push_back(1);  // the constant
  out.weights_.assign(out.inverse_df_.size() * static_cast<size_t>(num_classes), 0.0f);

  std::vector<Vector> rows(texts.size());
  parallel_for(num_rows, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) rows[static_cast<size_t>(i)] = out.vector_of(grams[static_cast<size_t>(i)]);
  });
  out.descend(rows, classes, options);
  return out;
}

void NgramClassifier::soften(std::span<const Entry> row, float scale, std::vector<float>& out) const {
  const auto n = static_cast<size_t>(num_classes_);
  out.assign(n, 0.0f);
  for (const auto& [feature, value] : row) {
    const float* weights = weights_.data() + static_cast<size_t>(feature) * n;
    for (size_t c = 0; c < n; ++c) out[c] += value * weights[c];
  }
  const float highest = *std::max_element(out.begin(), out.end());
  float sum = 0;
  for (float& x : out) sum += x = std::exp((x - highest) * scale);
  for (float& x : out) x /= sum;
}

// Plain SGD, one row a step, rate_t = rate / (1 + rate * l2 * t) (Bottou 2012, "Stochastic gradient descent tricks").
// The weights are scale * weights_, so that the penalty's shrinking costs one product a step instead of F * C.
void NgramClassifier::descend(std::span<const Vector> rows, std::span<const int32_t> classes,
                              const BagOfWordsOptions& options) {
  const auto n = static_cast<size_t>(num_classes_);
  const double l2 = 1 / (options.c * static_cast<double>(rows.size()));
  constexpr double kSmallestScale = 1e-3;
  double scale = 1, step = 0;
  const auto fold_scale = [&] {
    for (float& w : weights_) w *= static_cast<float>(scale);
    scale = 1;
  };
  std::vector<float> gradient;
  for (int64_t epoch = 0; epoch < options.epochs; ++epoch) {
    for (const int64_t i : permutation(static_cast<int64_t>(rows.size()), options.seed, static_cast<uint64_t>(epoch))) {
      const auto& row = rows[static_cast<size_t>(i)];
      const double rate = options.rate / (1 + options.rate * l2 * step++);
      soften(row, static_cast<float>(scale), gradient);
      gradient[static_cast<size_t>(classes[static_cast<size_t>(i)])] -= 1;
      scale *= 1 - rate * l2;
      const auto by = static_cast<float>(rate / scale);
      for (const auto& [feature, value] : row) {
        float* weights = weights_.data() + static_cast<size_t>(feature) * n;
        for (size_t c = 0; c < n; ++c) weights[c] -= by * value * gradient[c];
      }
      if (scale < kSmallestScale) fold_scale();
    }
  }
  fold_scale();
}

std::vector<float> NgramClassifier::probabilities(std::string_view text) const {
  std::vector<float> out;
  soften(vector_of(grams_of(text)), 1, out);
  return out;
}

int32_t NgramClassifier::classify(std::string_view text) const {
  const auto p = probabilities(text);
  return static_cast<int32_t>(std::max_element(p.begin(), p.end()) - p.begin());
}

double NgramClassifier::objective(std::span<const std::string> texts, std::span<const int32_t> classes,
                                  double c) const {
  double loss = 0, squares = 0;
  for (size_t i = 0; i < texts.size(); ++i)
    loss -= std::log(static_cast<double>(probabilities(texts[i])[static_cast<size_t>(classes[i])]));
  for (const float w : weights_) squares += static_cast<double>(w) * w;
  const auto n = static_cast<double>(texts.size());
  return loss / n + squares / (2 * c * n);
}

}  // namespace slmi::data
