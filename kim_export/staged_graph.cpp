#include "staged_graph.hpp"

#include <algorithm>
#include <cmath>

namespace kimgnn {

void check(const Particles& particles, int num_species) {
  for (int particle = 0; particle < particles.size(); ++particle) {
    const int code = particles.species_codes[particle];
    if (code < 0 || code >= num_species) {
      throw Error("particle " + std::to_string(particle) + " has species code " + std::to_string(code) +
                  "; this model has the codes 0 to " + std::to_string(num_species - 1) +
                  ". Ask KIM for the codes of the model's species.");
    }
    const auto position = particles.coordinates.subspan(3 * static_cast<std::size_t>(particle), 3);
    if (!std::ranges::all_of(position, [](double x) { return std::isfinite(x); })) {
      throw Error("particle " + std::to_string(particle) + " has a coordinate that is not a finite number. The "
                  "simulation has probably blown up: use a shorter time step, or relax the structure first.");
    }
  }
}

StagedGraph::StagedGraph(double cutoff, int layers)
    : cutoff_squared_(cutoff * cutoff),
      layers_(layers),
      node_counts_(static_cast<std::size_t>(layers)),
      edge_counts_(static_cast<std::size_t>(layers)) {}

bool StagedGraph::build(const Particles& particles, std::span<const int> contributing, std::size_t max_edges) {
  // Only of those reached last: a block of a large system must not cost as much as the whole.
  for (const int particle : nodes_) node_of_particle_[particle] = -1;
  node_of_particle_.resize(static_cast<std::size_t>(particles.size()), -1);
  nodes_.clear();
  species_codes_.clear();
  edge_index_.clear();
  edge_vectors_.clear();
  edge_ends_.clear();

  const auto reach = [&](int particle) {
    node_of_particle_[particle] = static_cast<std::int64_t>(nodes_.size());
    nodes_.push_back(particle);
    species_codes_.push_back(particles.species_codes[particle]);
  };
  for (const int particle : contributing) reach(particle);

  // Breadth first: the edges of one hop's receivers reach the nodes of the next. The last layer has the contributing
  // atoms as receivers, the first one all nodes but those of the last hop.
  std::size_t receiver = 0;
  for (int layer = layers_ - 1; layer >= 0; --layer) {
    const std::size_t within_hop = nodes_.size();
    for (; receiver < within_hop; ++receiver) {
      const int center = nodes_[receiver];
      const double* origin = &particles.coordinates[3 * static_cast<std::size_t>(center)];
      for (const int neighbor : particles.neighbors(center)) {
        const double* other = &particles.coordinates[3 * static_cast<std::size_t>(neighbor)];
        const double x = (origin[0] - other[0]) * particles.angstrom;
        const double y = (origin[1] - other[1]) * particles.angstrom;
        const double z = (origin[2] - other[2]) * particles.angstrom;
        const double squared = x * x + y * y + z * z;
        if (squared > cutoff_squared_) continue;
        if (squared == 0.0) {
          throw Error("particles " + std::to_string(center) + " and " + std::to_string(neighbor) +
                      " are at the same place. Remove one of them, or check the periodic images.");
        }
        if (node_of_particle_[neighbor] < 0) reach(neighbor);
        edge_index_.push_back(node_of_particle_[neighbor]);
        edge_vectors_.insert(edge_vectors_.end(), {x, y, z});
      }
      if (edge_index_.size() > max_edges) return false;
      edge_ends_.push_back(static_cast<std::int64_t>(edge_index_.size()));
    }
    node_counts_[layer] = static_cast<std::int64_t>(within_hop);
    edge_counts_[layer] = static_cast<std::int64_t>(edge_index_.size());
  }

  // The senders are there; the receivers follow from where each one's edges end.
  const auto num_edges = edge_index_.size();
  edge_index_.reserve(2 * num_edges);
  for (std::size_t node = 0; node < edge_ends_.size(); ++node) {
    edge_index_.resize(num_edges + static_cast<std::size_t>(edge_ends_[node]), static_cast<std::int64_t>(node));
  }
  pair_edges();
  return true;
}

Graph StagedGraph::view() const {
  return {species_codes_, edge_index_, edge_vectors_, node_counts_, edge_counts_, reverse_edge_};
}

// The edge that goes back is among those that the sender receives, unless it is a ghost that receives none.
void StagedGraph::pair_edges() {
  const auto num_edges = static_cast<std::int64_t>(edge_vectors_.size() / 3);
  const auto num_receivers = static_cast<std::int64_t>(edge_ends_.size());
  const auto receivers = edge_index_.begin() + num_edges;
  const auto first_edge = [&](std::int64_t node) { return node == 0 ? 0 : edge_ends_[node - 1]; };

  reverse_edge_.assign(num_edges, num_edges);
  for (std::int64_t edge = 0; edge < num_edges; ++edge) {
    const std::int64_t sender = edge_index_[edge], receiver = receivers[edge];
    if (reverse_edge_[edge] != num_edges || sender >= num_receivers) continue;
    const auto back = std::find(edge_index_.begin() + first_edge(sender), edge_index_.begin() + edge_ends_[sender],
                                receiver) - edge_index_.begin();
    if (back == edge_ends_[sender] || reverse_edge_[back] != num_edges) {
      throw Error("particles " + std::to_string(nodes_[sender]) + " and " + std::to_string(nodes_[receiver]) +
                  " are not in each other's neighbour list exactly once. The simulator must give full lists, of ghost "
                  "atoms too, that are out of the same step.");
    }
    reverse_edge_[edge] = back;
    reverse_edge_[back] = edge;
  }
}

}  // namespace kimgnn
