// The one instantiation of the JSON class, which json.h promises.
#include "slmi/base/json.h"

template class nlohmann::basic_json<nlohmann::ordered_map>;
