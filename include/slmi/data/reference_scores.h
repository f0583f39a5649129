// The plain baseline `bag-of-words`: what a linear classifier and look-ups reach when trained on the model's own rows.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "slmi/data/row.h"

namespace slmi::data {

/// The classifier: multinomial logistic regression with an L2 penalty on word 1-2-grams and character 3-5-grams inside
/// words, tf-idf weighted; stochastic gradient descent on one thread.
struct BagOfWordsOptions {
  uint64_t seed = 0;    // of the order of rows
  int64_t epochs = 20;  // passes over the rows
  double c = 3;     // the penalty is |W|^2 / (2 c rows) beside the mean loss; chosen on val of snips, clinc150, shop
  double rate = 1;  // first learning rate
  int64_t min_rows = 2;  // rows that an n-gram must occur in
};

/// Trained once, then read-only; thread-safe. Deterministic for equal rows and options, whatever the number of threads.
///
/// The class of a row is the `action` of its answer where it has a catalogue, else its `intent`. The rest of an answer:
/// - rows with slots: training's slot values of the predicted intent are looked up in the text, longest first, without
///   overlap; a value is the slot that it most often was; the answer has the text's own spelling.
/// - rows with a catalogue: the shown name nearest to any run of words by edit distance over length, and the number
///   (digits, number words and dozens of English, German, Spanish) nearest before it, else 1. Corrections after the
///   product ("two, no, three") are not understood. The classifier sees a mark in the name's place. Where no name is
///   near, or the class is `none`, the answer is no order.
/// - other rows: the most frequent answer of the predicted intent.
class BagOfWords {
 public:
  /// Rows of which at least one has an intent or an action.
  static bool applies_to(std::span<const Row> rows);
  /// Trains on the rows that have a class. @throws Error{Input} if none has.
  static BagOfWords fit(std::span<const Row> rows, const BagOfWordsOptions& options = {});

  /// The answer string, in the form of the training rows' answers.
  std::string predict(const Row& row) const;
  /// The class alone.
  std::string predict_intent(const Row& row) const;
  int64_t num_classes() const;
  int64_t num_features() const;

 private:
  struct Model;
  explicit BagOfWords(std::shared_ptr<const Model> model) : model_(std::move(model)) {}
  std::shared_ptr<const Model> model_;
};

}  // namespace slmi::data
