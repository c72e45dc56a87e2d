#include "blocks.hpp"

#include <algorithm>

namespace kimgnn {

std::size_t halve(const Particles& particles, std::span<int> atoms) {
  const auto along = [&](std::size_t axis) {
    return [&particles, axis](int atom) { return particles.coordinates[3 * static_cast<std::size_t>(atom) + axis]; };
  };
  std::size_t longest = 0;
  double extent = -1.0;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const auto [low, high] = std::ranges::minmax(atoms, {}, along(axis));
    if (const double found = along(axis)(high) - along(axis)(low); found > extent) {
      extent = found;
      longest = axis;
    }
  }
  const std::size_t half = atoms.size() / 2;
  std::ranges::nth_element(atoms, atoms.begin() + static_cast<std::ptrdiff_t>(half), {}, along(longest));
  // Neighbours in the simulator's order are neighbours in memory.
  std::ranges::sort(atoms.first(half));
  std::ranges::sort(atoms.subspan(half));
  return half;
}

}  // namespace kimgnn
