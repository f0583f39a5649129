// "Did you mean ...?" for mistyped names.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace slmi {

/// The candidate nearest to `name` by edit distance (Damerau-Levenshtein) if it is near enough to be a likely slip,
/// else "".
std::string nearest_name(std::string_view name, std::span<const std::string> candidates);

/// Edit distance with insertions, deletions, substitutions and swaps of neighbours, over bytes.
int edit_distance(std::string_view a, std::string_view b);

}  // namespace slmi
