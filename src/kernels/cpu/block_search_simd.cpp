// The searches of block_search.h in vectors.
#include "vec.h"
// vec.h first: it names the level
#include "block_search_lanes.h"
