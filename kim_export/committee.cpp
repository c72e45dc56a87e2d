#include "committee.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <span>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "KIM_Model.hpp"
#include "KIM_SupportedExtensions.hpp"
#include "committee.h"
#include "edge_sums.hpp"
#include "model.hpp"

namespace kimgnn {
namespace {

using Request = kimgnn_committee_deviation;

// The standard deviation over the members of each value, given the values of one member after the other.
void write_deviation(std::span<const double> values, int members, double* result) {
  const auto size = values.size() / static_cast<std::size_t>(members);
  for (std::size_t index = 0; index < size; ++index) {
    const auto of = [&](int member) { return values[static_cast<std::size_t>(member) * size + index]; };
    double mean = 0.0, squares = 0.0;
    for (int member = 0; member < members; ++member) mean += of(member) / members;
    for (int member = 0; member < members; ++member) squares += (of(member) - mean) * (of(member) - mean);
    result[index] = std::sqrt(squares / (members - 1));
  }
}

// Adds the forces on images, each member's (M, n, 3), to those on their owners, which leaves none on the images.
void fold(std::span<double> forces, std::span<const int> owner, int members) {
  for (int member = 0; member < members; ++member) {
    const auto of_each = of_member(forces, member, members);
    for (std::size_t particle = 0; particle < owner.size(); ++particle) {
      const auto its = static_cast<std::size_t>(owner[particle]);
      if (its == particle) continue;
      for (std::size_t axis = 0; axis < 3; ++axis) {
        of_each[3 * its + axis] += std::exchange(of_each[3 * particle + axis], 0.0);
      }
    }
  }
}

// A spread of forces on an atom and on its images apart means nothing, and adding up spreads would be wrong.
void check_owners(const Request& request, const KIM::ModelComputeArguments* arguments, int n) {
  if (request.owner == nullptr) {
    const auto contributing = array<const int>(arguments, KIM::COMPUTE_ARGUMENT_NAME::particleContributing, n);
    if (std::ranges::find(contributing, 0) == contributing.end()) return;
    throw Error("forces_deviation needs owner where particles do not contribute: the forces on an atom's images have to "
                "be added to its own, of each member, before members are compared. Give owner, or take member_forces.");
  }
  for (int particle = 0; particle < n; ++particle) {
    const int its = request.owner[particle];
    if (its < 0 || its >= n || request.owner[its] != its) {
      throw Error("owner of particle " + std::to_string(particle) + " is " + std::to_string(its) +
                  ", which is no particle that owns itself. Give zero-based numbers of particles.");
    }
  }
}

void committee_deviation(KIM::ModelExtension* extension, const Model& model, Request& request) {
  if (request.size != sizeof(Request)) {
    throw Error("struct kimgnn_committee_deviation has " + std::to_string(sizeof(Request)) + " bytes, and size says " +
                std::to_string(request.size) + ". Compile the simulator with this driver's committee.h.");
  }
  const int members = model.parameters.members;
  if (members == 1) {
    throw Error(model.parameters.model_file.filename().string() + " is a single network, without members to compare. "
                "Train an ensemble (model.ensemble: 5 in the manifest) and export that.");
  }
  request.members = members;
  if (request.compute_arguments == nullptr) return;

  auto* const given = static_cast<KIM::ComputeArguments*>(request.compute_arguments);
  const auto* arguments = extension->ModelComputeArguments(given);
  auto& workspace = buffer_of<Workspace>(arguments);
  if (workspace.model != &model) {
    throw Error("the compute arguments are another model's. Create them from the model that is asked.");
  }
  const auto count = array<const int>(arguments, KIM::COMPUTE_ARGUMENT_NAME::numberOfParticles, 1);
  const int n = count.empty() ? 0 : count.front();  // where it is not given, Compute says so
  if (request.forces_deviation != nullptr) check_owners(request, arguments, n);

  // KIM lets a model see neighbour lists in Compute only.
  MemberSums sums;
  sums.with_forces = request.forces_deviation != nullptr || request.member_forces != nullptr;
  workspace.members = &sums;
  const int failed = extension->Model()->Compute(given);
  workspace.members = nullptr;
  require(failed, "what the members say could not be computed; the entry of Compute says why.");

  if (request.member_energies != nullptr) std::ranges::copy(sums.energies, request.member_energies);
  if (request.energy_deviation != nullptr) write_deviation(sums.energies, members, request.energy_deviation);
  if (request.particle_energy_deviation != nullptr) {
    write_deviation(sums.particle_energies, members, request.particle_energy_deviation);
  }
  if (request.member_forces != nullptr) std::ranges::copy(sums.forces, request.member_forces);
  if (request.forces_deviation != nullptr) {
    if (request.owner != nullptr) fold(sums.forces, {request.owner, static_cast<std::size_t>(n)}, members);
    write_deviation(sums.forces, members, request.forces_deviation);
  }
}

}  // namespace

void MemberSums::clear(int members, int n) {
  const auto size = static_cast<std::size_t>(members) * static_cast<std::size_t>(n);
  energies.assign(static_cast<std::size_t>(members), 0.0);
  particle_energies.assign(size, 0.0);
  forces.assign(with_forces ? 3 * size : 0, 0.0);
}

void MemberSums::add(const Graph& graph, std::span<const double> of_nodes, std::span<const double> gradient,
                     std::span<const int> particle_of_node, const Units& units) {
  const int members = static_cast<int>(energies.size());
  for (int member = 0; member < members; ++member) {
    const auto said = of_member(of_nodes, member, members);
    const auto of_particles = of_member<double>(particle_energies, member, members);
    energies[member] += units.energy * std::accumulate(said.begin(), said.end(), 0.0);
    for (std::size_t node = 0; node < said.size(); ++node) {
      of_particles[particle_of_node[node]] = units.energy * said[node];
    }
    if (!with_forces) continue;
    const EdgeSums sums{.forces = of_member<double>(forces, member, members), .virial = {}, .particle_virial = {}};
    sums.add(graph, of_member(gradient, member, members), particle_of_node, units);
  }
}

int extend(KIM::ModelExtension* extension, void* structure) {
  return guarded(extension, [&] {
    const std::string* id = nullptr;
    extension->GetExtensionID(&id);
    if (structure == nullptr) throw Error("the extension '" + *id + "' was given no structure.");
    const auto& model = buffer_of<const Model>(extension);
    if (*id == KIMGNN_COMMITTEE_DEVIATION) {
      committee_deviation(extension, model, *static_cast<Request*>(structure));
    } else if (*id == KIM_SUPPORTED_EXTENSIONS_ID) {
      auto& supported = *static_cast<KIM::SupportedExtensions*>(structure);
      supported.numberOfSupportedExtensions = model.parameters.members > 1 ? 1 : 0;
      std::strcpy(supported.supportedExtensionID[0], KIMGNN_COMMITTEE_DEVIATION);
      supported.supportedExtensionRequired[0] = false;
    } else {
      throw Error("there is no extension '" + *id + "'; this driver has " KIMGNN_COMMITTEE_DEVIATION ".");
    }
  });
}

}  // namespace kimgnn
