// The KIM entry points: what KIM calls, with everything that can be thrown caught and written to KIM's log.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>
#include <numeric>
#include <span>
#include <string>

#include "KIM_ModelDriverHeaders.hpp"
#include "blocks.hpp"
#include "committee.hpp"
#include "edge_sums.hpp"
#include "model.hpp"
#include "runtime.hpp"
#include "staged_graph.hpp"

namespace kimgnn {
namespace {

// A network that overflows, or sees what it was never trained on, must not go unnoticed.
void require_finite(std::span<const double> values, const std::string& quantity, const std::filesystem::path& model) {
  if (std::ranges::all_of(values, [](double value) { return std::isfinite(value); })) return;
  throw Error(model.filename().string() + " gave a number that is not finite as " + quantity + ". Atoms may be far too "
              "close, or the structure far outside what the network was trained on: relax the structure first, use a "
              "shorter time step, or train on such structures.");
}

// What 1 Å to the power `length_exponent` times 1 eV to the power `energy_exponent` is in other units.
double from_angstrom_and_ev(KIM::LengthUnit length, KIM::EnergyUnit energy, double length_exponent,
                            double energy_exponent) {
  const auto charge = KIM::CHARGE_UNIT::unused;
  const auto temperature = KIM::TEMPERATURE_UNIT::unused;
  const auto time = KIM::TIME_UNIT::unused;
  double factor = 0.0;
  require(KIM::ModelDriverCreate::ConvertUnit(KIM::LENGTH_UNIT::A, KIM::ENERGY_UNIT::eV, charge, temperature, time,
                                              length, energy, charge, temperature, time, length_exponent,
                                              energy_exponent, 0.0, 0.0, 0.0, &factor),
          "cannot convert Å and eV to the units asked for (" + length.ToString() + ", " + energy.ToString() +
              "). Ask for a length and an energy unit that KIM knows.");
  return factor;
}

Units units_for(KIM::LengthUnit length, KIM::EnergyUnit energy) {
  const double length_factor = from_angstrom_and_ev(length, KIM::ENERGY_UNIT::eV, 1.0, 0.0);
  // KIM API 2.3 takes 1 J for 1e-7 erg, which is the wrong way round.
  const bool erg = energy == KIM::ENERGY_UNIT::erg;
  const double energy_factor =
      (erg ? 1e7 : 1.0) * from_angstrom_and_ev(length, erg ? KIM::ENERGY_UNIT::J : energy, 0.0, 1.0);
  return {.angstrom = 1.0 / length_factor,
          .length = length_factor,
          .energy = energy_factor,
          .force = energy_factor / length_factor};
}

template <typename Routine>
void set_routine(KIM::ModelDriverCreate* create, KIM::ModelRoutineName name, Routine* routine) {
  // A simulator may do without extensions.
  const bool required = name != KIM::MODEL_ROUTINE_NAME::Extension;
  require(create->SetRoutinePointer(name, KIM::LANGUAGE_NAME::cpp, required, reinterpret_cast<KIM::Function*>(routine)),
          "KIM refused the routine " + name.ToString() + ". Use a KIM API of version 2.2 or later.");
}

int compute_arguments_create(const KIM::ModelCompute* compute, KIM::ModelComputeArgumentsCreate* arguments) {
  return guarded(arguments, [&] {
    namespace name = KIM::COMPUTE_ARGUMENT_NAME;
    for (const auto& argument : {name::partialEnergy, name::partialForces, name::partialParticleEnergy,
                                 name::partialVirial, name::partialParticleVirial}) {
      require(arguments->SetArgumentSupportStatus(argument, KIM::SUPPORT_STATUS::optional),
              "KIM refused the argument " + argument.ToString() + ". Use a KIM API of version 2.2 or later.");
    }
    auto workspace = std::make_unique<Workspace>(buffer_of<const Model>(compute));
    arguments->SetModelBufferPointer(workspace.release());
  });
}

int compute_arguments_destroy(const KIM::ModelCompute*, KIM::ModelComputeArgumentsDestroy* arguments) {
  return guarded(arguments, [&] { delete &buffer_of<Workspace>(arguments); });
}

// The mean over the members, which takes the place of the first one's values.
std::span<const double> mean(std::span<double> values, int members) {
  const auto result = of_member(values, 0, members);
  if (members == 1) return result;
  for (int member = 1; member < members; ++member) {
    std::ranges::transform(result, of_member(values, member, members), result.begin(), std::plus());
  }
  for (double& value : result) value /= members;
  return result;
}

int compute(const KIM::ModelCompute* compute, const KIM::ModelComputeArguments* arguments) {
  return guarded(arguments, [&] {
    namespace name = KIM::COMPUTE_ARGUMENT_NAME;
    const auto& model = buffer_of<const Model>(compute);
    auto& [owner, graph, contributing, energies, gradient, members] = buffer_of<Workspace>(arguments);
    const int num_members = model.parameters.members;

    const int n = array<const int>(arguments, name::numberOfParticles, 1).front();
    const auto energy = array<double>(arguments, name::partialEnergy, 1);
    const auto particle_energy = array<double>(arguments, name::partialParticleEnergy, n);
    const EdgeSums sums{.forces = array<double>(arguments, name::partialForces, 3 * n),
                        .virial = array<double>(arguments, name::partialVirial, 6),
                        .particle_virial = array<double>(arguments, name::partialParticleVirial, 6 * n)};
    const bool derive = sums.wanted() || (members != nullptr && members->with_forces);
    std::ranges::fill(energy, 0.0);
    std::ranges::fill(particle_energy, 0.0);
    sums.clear();
    if (members != nullptr) members->clear(num_members, n);

    const Particles particles{
        .coordinates = array<const double>(arguments, name::coordinates, 3 * n),
        .species_codes = array<const int>(arguments, name::particleSpeciesCodes, n),
        .contributing = array<const int>(arguments, name::particleContributing, n),
        .angstrom = model.units.angstrom,
        .neighbors = [&](int particle) -> std::span<const int> {
          int count = 0;
          const int* list = nullptr;
          require(arguments->GetNeighborList(0, particle, &count, &list),
                  "the simulator gave no neighbours of particle " + std::to_string(particle) +
                      ". It must keep neighbour lists of ghost atoms too, out to the influence distance.");
          return {list, static_cast<std::size_t>(count)};
        }};
    check(particles, static_cast<int>(model.parameters.species.size()));
    contributing.clear();
    for (int particle = 0; particle < n; ++particle) {
      if (particles.contributing[particle] != 0) contributing.push_back(particle);
    }
    in_blocks(graph, particles, contributing, model.max_edges, [&] {
      const Graph view = graph.view();
      const auto particle_of_node = graph.particle_of_node();
      energies.resize(static_cast<std::size_t>(num_members) * view.num_contributing());
      gradient.resize(derive ? static_cast<std::size_t>(num_members) * view.edge_vectors.size() : 0);
      model.backend->evaluate(view, energies, gradient);

      require_finite(energies, "energy", model.parameters.model_file);
      require_finite(gradient, "force", model.parameters.model_file);
      if (members != nullptr) members->add(view, energies, gradient, particle_of_node, model.units);
      const auto of_nodes = mean(energies, num_members);
      const double total = std::accumulate(of_nodes.begin(), of_nodes.end(), 0.0);
      if (!energy.empty()) energy.front() += model.units.energy * total;
      if (!particle_energy.empty()) {
        for (std::size_t node = 0; node < of_nodes.size(); ++node) {
          particle_energy[particle_of_node[node]] = model.units.energy * of_nodes[node];
        }
      }
      if (sums.wanted()) sums.add(view, mean(gradient, num_members), particle_of_node, model.units);
    });
  });
}

int destroy(KIM::ModelDestroy* model_destroy) {
  return guarded(model_destroy, [&] { delete &buffer_of<Model>(model_destroy); });
}

void create(KIM::ModelDriverCreate* driver, KIM::LengthUnit length, KIM::EnergyUnit energy) {
  const std::string* directory = nullptr;
  driver->GetParameterFileDirectoryName(&directory);

  auto model = std::make_unique<Model>();
  model->parameters = read_parameters(*directory);
  model->units = units_for(length, energy);
  model->cutoff = model->parameters.cutoff * model->units.length;
  model->influence_distance = model->cutoff * model->parameters.layers;
  model->no_neighbors_of_ghosts = model->parameters.layers == 1;
  const Runtime runtime = read_runtime();
  model->max_edges = runtime.max_edges;
  model->backend = load_backend(model->parameters.backend, model->parameters.model_file, model->parameters.members,
                                runtime);

  require(driver->SetUnits(length, energy, KIM::CHARGE_UNIT::unused, KIM::TEMPERATURE_UNIT::unused,
                           KIM::TIME_UNIT::unused),
          "KIM refused the units " + length.ToString() + " and " + energy.ToString() + ". Ask for others.");
  require(driver->SetModelNumbering(KIM::NUMBERING::zeroBased), "KIM refused zero-based numbering.");
  for (int code = 0; code < static_cast<int>(model->parameters.species.size()); ++code) {
    const auto& species = model->parameters.species[static_cast<std::size_t>(code)];
    require(driver->SetSpeciesCode(KIM::SpeciesName(species), code),
            std::string(kParameterFile) + ": KIM knows no species '" + species + "'. Write element symbols, as 'Si'.");
  }
  set_routine(driver, KIM::MODEL_ROUTINE_NAME::ComputeArgumentsCreate, compute_arguments_create);
  set_routine(driver, KIM::MODEL_ROUTINE_NAME::Compute, compute);
  set_routine(driver, KIM::MODEL_ROUTINE_NAME::ComputeArgumentsDestroy, compute_arguments_destroy);
  set_routine(driver, KIM::MODEL_ROUTINE_NAME::Destroy, destroy);
  set_routine(driver, KIM::MODEL_ROUTINE_NAME::Extension, extend);
  driver->SetInfluenceDistancePointer(&model->influence_distance);
  driver->SetNeighborListPointers(1, &model->cutoff, &model->no_neighbors_of_ghosts);
  driver->SetModelBufferPointer(model.release());
}

}  // namespace
}  // namespace kimgnn

extern "C" int kimgnn_driver_create(
    KIM::ModelDriverCreate* const driver, KIM::LengthUnit const length, KIM::EnergyUnit const energy,
    KIM::ChargeUnit const, KIM::TemperatureUnit const, KIM::TimeUnit const) {
  return kimgnn::guarded(driver, [&] { kimgnn::create(driver, length, energy); });
}
