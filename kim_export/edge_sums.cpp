#include "edge_sums.hpp"

#include <algorithm>
#include <array>

namespace kimgnn {

void EdgeSums::clear() const {
  for (const auto sum : {forces, virial, particle_virial}) std::ranges::fill(sum, 0.0);
}

void EdgeSums::add(const Graph& graph, std::span<const double> gradient, std::span<const int> particle_of_node,
                   const Units& units) const {
  const auto senders = graph.edge_index.first(graph.num_edges());
  const auto receivers = graph.edge_index.last(graph.num_edges());
  for (std::size_t edge = 0; edge < graph.num_edges(); ++edge) {
    const auto sender = static_cast<std::size_t>(particle_of_node[senders[edge]]);
    const auto receiver = static_cast<std::size_t>(particle_of_node[receivers[edge]]);
    const double* g = &gradient[3 * edge];
    const double* v = &graph.edge_vectors[3 * edge];

    if (!forces.empty()) {
      for (std::size_t axis = 0; axis < 3; ++axis) {
        const double force = units.force * g[axis];
        forces[3 * receiver + axis] -= force;
        forces[3 * sender + axis] += force;
      }
    }
    if (virial.empty() && particle_virial.empty()) continue;

    const double half = 0.5 * units.energy;
    const std::array<double, 6> half_virial = {half * g[0] * v[0],
                                               half * g[1] * v[1],
                                               half * g[2] * v[2],
                                               0.5 * half * (g[1] * v[2] + g[2] * v[1]),
                                               0.5 * half * (g[0] * v[2] + g[2] * v[0]),
                                               0.5 * half * (g[0] * v[1] + g[1] * v[0])};
    for (std::size_t component = 0; component < 6; ++component) {
      if (!virial.empty()) virial[component] += 2.0 * half_virial[component];
      if (!particle_virial.empty()) {
        particle_virial[6 * receiver + component] += half_virial[component];
        particle_virial[6 * sender + component] += half_virial[component];
      }
    }
  }
}

}  // namespace kimgnn
