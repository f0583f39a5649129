// Weights to quantize, and those that are not; see the header.
#include "slmi/calib/weight_source.h"

#include "slmi/base/error.h"
#include "slmi/model/model_directory.h"

namespace slmi::calib {

WeightSource weights_of(const model::MergedWeights& weights) {
  return [&weights](const std::string& name) {
    const model::MergedTensor tensor = weights.tensor(name);
    return tensor.rows(0, tensor.n());
  };
}

formats::OutputTensor number_tensor(const std::string& name, const formats::Shape& shape, formats::Dtype dtype,
                                    const formats::Checkpoint& checkpoint, const WeightSource& weights) {
  formats::OutputTensor out{name, model::written_dtype(checkpoint, name, dtype), shape};
  out.produce = [name, type = out.dtype, &weights] {
    return model::rounded_bytes(weights(name), type, fmt::format("tensor '{}'", name));
  };
  return out;
}

}  // namespace slmi::calib
