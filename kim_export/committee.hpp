// What each member of a committee says, and the extension of the KIM API by which a simulator learns it: see committee.h.

#pragma once

#include <span>
#include <vector>

#include "KIM_ModelDriverHeaders.hpp"
#include "backend.hpp"
#include "units.hpp"

namespace kimgnn {

// Of M members and n particles, in the simulator's units.
struct MemberSums {
  bool with_forces = false;
  std::vector<double> energies;           // (M,)
  std::vector<double> particle_energies;  // (M, n)
  std::vector<double> forces;             // (M, 3 * n), if wanted

  void clear(int members, int n);

  // Adds what the members say of a block: `energies` and `gradient` are as Backend::evaluate writes them.
  void add(const Graph& graph, std::span<const double> energies, std::span<const double> gradient,
           std::span<const int> particle_of_node, const Units& units);
};

// KIM's Extension routine.
int extend(KIM::ModelExtension* extension, void* structure);

}  // namespace kimgnn
