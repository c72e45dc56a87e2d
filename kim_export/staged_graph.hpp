// From KIM's neighbour lists to the graph a network of L layers needs, and from its gradient back to atoms.

#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "backend.hpp"

namespace kimgnn {

// The atoms of one KIM compute call. Coordinates are in the simulator's length unit.
struct Particles {
  std::span<const double> coordinates;     // (3 * n,)
  std::span<const int> species_codes;      // (n,)
  std::span<const int> contributing;       // (n,) 1 or 0
  double angstrom;                         // one length unit of the simulator, in Å
  std::function<std::span<const int>(int)> neighbors;  // of a particle; may hold more than those within the cutoff

  int size() const { return static_cast<int>(species_codes.size()); }
};

// Throws Error on a particle that cannot be evaluated.
void check(const Particles& particles, int num_species);

// The nodes reached from some of the contributing atoms in `layers` hops; the others are as ghosts to these. Buffers are
// kept from one call to the next.
class StagedGraph {
 public:
  StagedGraph(double cutoff, int layers);

  // Returns whether the graph has at most so many edges; otherwise there is none. Throws Error on neighbour lists that
  // contradict each other, or two particles at one place.
  bool build(const Particles& particles, std::span<const int> contributing, std::size_t max_edges);

  Graph view() const;
  std::span<const int> particle_of_node() const { return nodes_; }

 private:
  void pair_edges();

  double cutoff_squared_;
  int layers_;

  std::vector<int> nodes_;                  // node -> particle
  std::vector<std::int64_t> node_of_particle_;  // -1 where not reached
  std::vector<std::int64_t> species_codes_;
  std::vector<std::int64_t> edge_index_;
  std::vector<double> edge_vectors_;
  std::vector<std::int64_t> edge_ends_;     // receiver -> end of its edges
  std::vector<std::int64_t> node_counts_;
  std::vector<std::int64_t> edge_counts_;
  std::vector<std::int64_t> reverse_edge_;
};

}  // namespace kimgnn
