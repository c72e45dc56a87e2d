// The contributing atoms in blocks that are evaluated one after the other, so that memory does not grow with the system.
// A block that is compact has few atoms around it, which its neighbours evaluate too.

#pragma once

#include <cstddef>
#include <limits>
#include <optional>
#include <span>

#include "staged_graph.hpp"

namespace kimgnn {

// Reorders `atoms`, of which there are at least two, and returns how many lie in the lower half of their longest extent.
std::size_t halve(const Particles& particles, std::span<int> atoms);

// Of a network of 128 channels, three layers and double precision, 1.6 GB: 4,096 atoms of silicon within 4 Å. In smaller
// parts atoms near their faces are evaluated more often: parts an eighth as large take 1.4 times as long.
inline constexpr std::size_t kMaxEdges = 150'000;

// Returns the edges of a block where nothing else is asked for: kMaxEdges, or more where an atom alone has many. In copper
// within 6 Å, for one, four layers give it more than kMaxEdges: atom by atom, all would take 70 times as long.
std::size_t edges_of_block(StagedGraph& graph, const Particles& particles, std::span<const int> atoms);

// Calls `evaluate` each time that `graph` holds the next block: `atoms` (reordered), or halves of halves of them, of not
// more than `max_edges`, or `edges_of_block`. One atom is evaluated whatever its edges.
template <typename Evaluate>
void in_blocks(StagedGraph& graph, const Particles& particles, std::span<int> atoms,
               std::optional<std::size_t> max_edges, const Evaluate& evaluate) {
  if (atoms.empty()) return;
  const std::size_t most = max_edges.value_or(kMaxEdges);
  if (graph.build(particles, atoms, atoms.size() > 1 ? most : std::numeric_limits<std::size_t>::max())) {
    evaluate();
    return;
  }
  if (!max_edges) return in_blocks(graph, particles, atoms, edges_of_block(graph, particles, atoms), evaluate);
  const std::size_t half = halve(particles, atoms);
  in_blocks(graph, particles, atoms.first(half), max_edges, evaluate);
  in_blocks(graph, particles, atoms.subspan(half), max_edges, evaluate);
}

}  // namespace kimgnn
