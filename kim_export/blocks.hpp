// The contributing atoms in blocks that are evaluated one after the other, so that memory does not grow with the system.
// A block that is compact has few atoms around it, which its neighbours evaluate too.

#pragma once

#include <cstddef>
#include <limits>
#include <span>

#include "staged_graph.hpp"

namespace kimgnn {

// Reorders `atoms`, of which there are at least two, and returns how many lie in the lower half of their longest extent.
std::size_t halve(const Particles& particles, std::span<int> atoms);

// Calls `evaluate` each time that `graph` holds the next block: `atoms` (reordered), or halves of halves of them, of not
// more than `max_edges`. One atom is evaluated whatever its edges.
template <typename Evaluate>
void in_blocks(StagedGraph& graph, const Particles& particles, std::span<int> atoms, std::size_t max_edges,
               const Evaluate& evaluate) {
  if (atoms.empty()) return;
  if (graph.build(particles, atoms, atoms.size() > 1 ? max_edges : std::numeric_limits<std::size_t>::max())) {
    evaluate();
    return;
  }
  const std::size_t half = halve(particles, atoms);
  in_blocks(graph, particles, atoms.first(half), max_edges, evaluate);
  in_blocks(graph, particles, atoms.subspan(half), max_edges, evaluate);
}

}  // namespace kimgnn
