// Forces and virial as sums over edges. With g = dE/dv of an edge vector v = r(receiver) - r(sender), the edge adds -g
// to the force on its receiver, +g to that on its sender, and the symmetric part of g (x) v to the virial.

#pragma once

#include <span>

#include "backend.hpp"
#include "units.hpp"

namespace kimgnn {

// Where the sums go, n being the number of particles; an empty span is not wanted.
struct EdgeSums {
  std::span<double> forces;           // (3 * n,)
  std::span<double> virial;           // (6,) xx yy zz yz xz xy, ordered and signed as KIM does
  std::span<double> particle_virial;  // (6 * n,) half of an edge's virial at each of its ends

  bool wanted() const { return !forces.empty() || !virial.empty() || !particle_virial.empty(); }
  void clear() const;

  // `gradient` is (E, 3) in eV/Å; `particle_of_node` maps the graph's nodes to particles.
  void add(const Graph& graph, std::span<const double> gradient, std::span<const int> particle_of_node,
           const Units& units) const;
};

}  // namespace kimgnn
