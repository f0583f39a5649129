// The table of errors as JSON; see the header.
#include "slmi/calib/layer_options.h"

namespace slmi::calib {

Json to_json(const ModuleReport& r) {
  return {{"layer", r.layer},
          {"module", r.module},
          {"rows", r.n},
          {"columns", r.k},
          {"error", r.error},
          {"nearest_error", r.nearest_error},
          {"damp", r.damp},
          {"damp_raises", r.damp_raises},
          {"dead_inputs", r.dead_inputs}};
}

}  // namespace slmi::calib
