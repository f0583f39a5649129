// The search of group_search.h in vectors.
#include "vec.h"
// vec.h first: it names the level
#include "group_search_lanes.h"
