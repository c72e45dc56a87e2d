// The KIM entry points: what KIM calls, with everything that can be thrown caught and written to KIM's log.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <new>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "KIM_ModelDriverHeaders.hpp"
#include "backend.hpp"
#include "blocks.hpp"
#include "edge_sums.hpp"
#include "parameters.hpp"
#include "runtime.hpp"
#include "staged_graph.hpp"
#include "units.hpp"

namespace kimgnn {
namespace {

// What belongs to a KIM model, constant after its creation. KIM keeps pointers into it.
struct Model {
  Parameters parameters;
  Units units;
  double cutoff;              // simulator's length unit, as the next one
  double influence_distance;
  int no_neighbors_of_ghosts;  // with one layer, nobody asks for the neighbours of a ghost
  std::optional<std::size_t> max_edges;  // evaluated at once, where the user says so
  std::unique_ptr<Backend> backend;
};

// What belongs to a KIM compute-arguments object: buffers that last from one step to the next, one set a thread.
struct Workspace {
  explicit Workspace(const Parameters& parameters) : graph(parameters.cutoff, parameters.layers) {}
  StagedGraph graph;
  std::vector<int> contributing;
  std::vector<double> energies;  // of the graph's contributing atoms, eV
  std::vector<double> gradient;  // of their sum by the edge vectors, eV/Å
};

// Runs an entry point; an exception becomes an entry in KIM's log and an error returned.
template <typename Logger, typename Function>
int guarded(Logger* logger, Function function) noexcept {
  const auto log = [&](const std::string& message) noexcept {
    try {
      logger->LogEntry(KIM::LOG_VERBOSITY::error, "kimgnn: " + message, __LINE__, __FILE__);
    } catch (...) {
      // Nothing is left to tell it with.
    }
    return static_cast<int>(true);
  };
  try {
    function();
    return false;
  } catch (const std::bad_alloc&) {
    return log("out of memory. Use more MPI ranks or a smaller system.");
  } catch (const std::exception& error) {
    return log(error.what());
  } catch (...) {
    return log("an unknown error was thrown. Reinstall the driver with `kimgnn driver install --force`.");
  }
}

// KIM's routines return true on an error and have then logged why.
void require(int error, const std::string& what) {
  if (error) throw Error(what);
}

// A network that overflows, or sees what it was never trained on, must not go unnoticed.
void require_finite(std::span<const double> values, const std::string& quantity, const std::filesystem::path& model) {
  if (std::ranges::all_of(values, [](double value) { return std::isfinite(value); })) return;
  throw Error(model.filename().string() + " gave a number that is not finite as " + quantity + ". Atoms may be far too "
              "close, or the structure far outside what the network was trained on: relax the structure first, use a "
              "shorter time step, or train on such structures.");
}

template <typename Buffer, typename Owner>
Buffer& buffer_of(const Owner* owner) {
  void* pointer = nullptr;
  owner->GetModelBufferPointer(&pointer);
  if (pointer == nullptr) throw Error("KIM gave no buffer back. Create the model and its compute arguments anew.");
  return *static_cast<Buffer*>(pointer);
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
  require(create->SetRoutinePointer(name, KIM::LANGUAGE_NAME::cpp, true, reinterpret_cast<KIM::Function*>(routine)),
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
    auto workspace = std::make_unique<Workspace>(buffer_of<const Model>(compute).parameters);
    arguments->SetModelBufferPointer(workspace.release());
  });
}

int compute_arguments_destroy(const KIM::ModelCompute*, KIM::ModelComputeArgumentsDestroy* arguments) {
  return guarded(arguments, [&] { delete &buffer_of<Workspace>(arguments); });
}

// The array of a compute argument; empty when the simulator does not want it.
template <typename Number>
std::span<Number> array(const KIM::ModelComputeArguments* arguments, KIM::ComputeArgumentName name, int size) {
  Number* pointer = nullptr;
  require(arguments->GetArgumentPointer(name, &pointer), "KIM did not give the argument " + name.ToString() +
                                                             ". Create the compute arguments from this model.");
  return {pointer, pointer == nullptr ? 0 : static_cast<std::size_t>(size)};
}

int compute(const KIM::ModelCompute* compute, const KIM::ModelComputeArguments* arguments) {
  return guarded(arguments, [&] {
    namespace name = KIM::COMPUTE_ARGUMENT_NAME;
    const auto& model = buffer_of<const Model>(compute);
    auto& [graph, contributing, energies, gradient] = buffer_of<Workspace>(arguments);

    const int n = array<const int>(arguments, name::numberOfParticles, 1).front();
    const auto energy = array<double>(arguments, name::partialEnergy, 1);
    const auto particle_energy = array<double>(arguments, name::partialParticleEnergy, n);
    const EdgeSums sums{.forces = array<double>(arguments, name::partialForces, 3 * n),
                        .virial = array<double>(arguments, name::partialVirial, 6),
                        .particle_virial = array<double>(arguments, name::partialParticleVirial, 6 * n)};
    std::ranges::fill(energy, 0.0);
    std::ranges::fill(particle_energy, 0.0);
    sums.clear();

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
      energies.resize(view.num_contributing());
      gradient.resize(sums.wanted() ? view.edge_vectors.size() : 0);
      model.backend->evaluate(view, energies, gradient);

      require_finite(energies, "energy", model.parameters.model_file);
      require_finite(gradient, "force", model.parameters.model_file);
      const double total = std::accumulate(energies.begin(), energies.end(), 0.0);
      if (!energy.empty()) energy.front() += model.units.energy * total;
      if (!particle_energy.empty()) {
        for (std::size_t node = 0; node < energies.size(); ++node) {
          particle_energy[graph.particle_of_node()[node]] = model.units.energy * energies[node];
        }
      }
      if (sums.wanted()) sums.add(view, gradient, graph.particle_of_node(), model.units);
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
  model->backend = load_backend(model->parameters.backend, model->parameters.model_file, runtime);

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
