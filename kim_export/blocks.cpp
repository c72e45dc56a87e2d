#include "blocks.hpp"

#include <algorithm>
#include <array>

namespace kimgnn {
namespace {

// Of the edges of an atom alone, so many are a block about as wide as what lies around it: an eighth of it is its own.
constexpr std::size_t kAtomsAlone = 8;

}  // namespace

std::size_t edges_of_block(StagedGraph& graph, const Particles& particles, std::span<const int> atoms) {
  const auto position = [&](int atom, std::size_t axis) {
    return particles.coordinates[3 * static_cast<std::size_t>(atom) + axis];
  };
  std::array<double, 3> center{};
  for (const int atom : atoms) {
    for (std::size_t axis = 0; axis < 3; ++axis) center[axis] += position(atom, axis) / static_cast<double>(atoms.size());
  }
  const int inmost = *std::ranges::min_element(atoms, {}, [&](int atom) {
    double squared = 0.0;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      squared += (position(atom, axis) - center[axis]) * (position(atom, axis) - center[axis]);
    }
    return squared;
  });
  graph.build(particles, {&inmost, 1}, std::numeric_limits<std::size_t>::max());
  return std::max(kMaxEdges, kAtomsAlone * graph.view().num_edges());
}

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
