// The classifier of the plain baseline: multinomial logistic regression on n-grams.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "slmi/data/reference_scores.h"

namespace slmi::data {

/// C classes, F features. P(class | text) = softmax over classes of sum_f x_f W[f, class]; minimises
///   mean over rows of -log P(class of row | row) + |W|^2 / (2 c rows).
/// x: tf-idf ((1 + log tf) * (1 + log((1 + rows) / (1 + df)))) of word 1-2-grams and, apart, of character 3-5-grams
/// inside words (with their borders), each of the two of length 1; and a constant 1.
class NgramClassifier {
 public:
  /// @param classes  [texts], 0 .. num_classes-1.
  static NgramClassifier fit(std::span<const std::string> texts, std::span<const int32_t> classes, int32_t num_classes,
                             const BagOfWordsOptions& options);

  /// f32 [C]: probabilities.
  std::vector<float> probabilities(std::string_view text) const;
  /// The most probable class; of equal ones the first.
  int32_t classify(std::string_view text) const;
  int64_t num_features() const { return static_cast<int64_t>(inverse_df_.size()); }
  int32_t num_classes() const { return num_classes_; }
  /// The minimised objective on texts, for tests.
  double objective(std::span<const std::string> texts, std::span<const int32_t> classes, double c) const;

 private:
  struct Entry {
    int32_t feature;
    float value;
  };
  using Vector = std::vector<Entry>;
  struct Grams;
  static Grams grams_of(std::string_view text);
  Vector vector_of(const Grams& grams) const;
  void descend(std::span<const Vector> rows, std::span<const int32_t> classes, const BagOfWordsOptions& options);
  void soften(std::span<const Entry> row, float scale, std::vector<float>& out) const;

  int32_t num_classes_ = 0;
  std::unordered_map<uint64_t, int32_t> index_;  // hash of an n-gram -> feature
  std::vector<float> inverse_df_;                // [F]; the last one is the constant
  std::vector<float> weights_;                   // [F, C]
};

}  // namespace slmi::data
