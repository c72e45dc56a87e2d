// A smooth pair potential of Si and C, right unless the environment variable BROKEN_MODEL_FAULT names what to break.

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "KIM_ModelHeaders.hpp"

namespace {

using Vector = std::array<double, 3>;

constexpr double kCutoff = 4.5;  // Å
constexpr std::array<double, 2> kDepth = {1.0, 1.8};  // eV, by species code
constexpr double kEquilibrium = 2.3, kStiffness = 1.5;  // Å, 1/Å

struct Model {
  std::string fault;
  double length = 1.0, energy = 1.0;  // what 1 Å and 1 eV are in the simulator's units
  double influence_distance = kCutoff;
  int no_neighbors_of_ghosts = 1;
};

struct Value {
  double value, slope;
};

// Falls to zero at the cutoff with three continuous derivatives.
Value envelope(double r) {
  const double x = 1.0 - r * r / (kCutoff * kCutoff);
  return {std::pow(x, 4), -8.0 * r / (kCutoff * kCutoff) * std::pow(x, 3)};
}

// Morse's potential times the envelope.
Value pair_energy(double r, double depth) {
  const double e = std::exp(-kStiffness * (r - kEquilibrium));
  const Value end = envelope(r);
  const double morse = depth * (e * e - 2.0 * e);
  const double slope = -2.0 * kStiffness * depth * (e * e - e);
  return {morse * end.value, slope * end.value + morse * end.slope};
}

Vector cross(const Vector& a, const Vector& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

double dot(const Vector& a, const Vector& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

struct Arguments {
  int n;
  const int *species, *contributing;
  std::vector<Vector> positions;  // Å
  double energy = 0.0;            // eV
  std::vector<Vector> forces;     // eV/Å

  Vector between(int i, int j) const {
    return {positions[j][0] - positions[i][0], positions[j][1] - positions[i][1], positions[j][2] - positions[i][2]};
  }
  // Adds the forces of an energy whose derivative by the vector from i to j is g.
  void pull(int i, int j, const Vector& g) {
    for (int k = 0; k < 3; ++k) {
      forces[i][k] += g[k];
      forces[j][k] -= g[k];
    }
  }
};

void add_pair(Arguments& a, int i, int j, const std::string& fault) {
  const Vector v = a.between(i, j);
  const double r = std::sqrt(dot(v, v));
  if (r >= kCutoff) return;
  auto [value, slope] = pair_energy(r, std::sqrt(kDepth[a.species[i]] * kDepth[a.species[j]]));
  if (fault == "energy_jump") value += 0.01;

  double weight = 0.5;
  if (fault == "images_twice" && !a.contributing[j]) weight = 1.0;
  if (fault == "by_index" && i % 2) weight = 0.6;
  const double tilt = fault == "anisotropic" ? 0.1 : 0.0;
  const double z = v[2] / r;
  a.energy += weight * value * (1.0 + tilt * z * z);
  Vector g;
  for (int k = 0; k < 3; ++k) {
    const double z_by_v = ((k == 2) - z * v[k] / r) / r;
    g[k] = weight * (slope * v[k] / r * (1.0 + tilt * z * z) + value * tilt * 2.0 * z * z_by_v);
  }
  a.pull(i, j, g);
}

// Adds the triple product of three sums of vectors to neighbours: turning leaves it, a mirror inverts its sign.
void add_chirality(Arguments& a, int i, const int* neighbors, int count) {
  const double strength = 0.01;
  std::array<Vector, 3> sums{};
  const auto weight = [](int power, double r) {
    const Value end = envelope(r);
    const double factor = std::pow(r, power);
    return Value{factor * end.value, factor * end.slope + power * factor / r * end.value};
  };
  const auto each = [&](auto use) {
    for (int index = 0; index < count; ++index) {
      const Vector v = a.between(i, neighbors[index]);
      const double r = std::sqrt(dot(v, v));
      if (r < kCutoff) use(neighbors[index], v, r);
    }
  };
  each([&](int, const Vector& v, double r) {
    for (int power = 0; power < 3; ++power) {
      for (int k = 0; k < 3; ++k) sums[power][k] += weight(power, r).value * v[k];
    }
  });
  a.energy += strength * dot(cross(sums[0], sums[1]), sums[2]);
  const std::array<Vector, 3> by_sums = {cross(sums[1], sums[2]), cross(sums[2], sums[0]), cross(sums[0], sums[1])};
  each([&](int j, const Vector& v, double r) {
    Vector g{};
    for (int power = 0; power < 3; ++power) {
      const auto [value, slope] = weight(power, r);
      for (int k = 0; k < 3; ++k) {
        g[k] += strength * (value * by_sums[power][k] + slope * dot(by_sums[power], v) * v[k] / r);
      }
    }
    a.pull(i, j, g);
  });
}

int compute(const KIM::ModelCompute* compute, const KIM::ModelComputeArguments* kim) {
  namespace name = KIM::COMPUTE_ARGUMENT_NAME;
  void* buffer = nullptr;
  compute->GetModelBufferPointer(&buffer);
  const Model& model = *static_cast<const Model*>(buffer);

  const int* n = nullptr;
  const double* coordinates = nullptr;
  double *energy = nullptr, *forces = nullptr;
  Arguments a{};
  if (kim->GetArgumentPointer(name::numberOfParticles, &n) ||
      kim->GetArgumentPointer(name::particleSpeciesCodes, &a.species) ||
      kim->GetArgumentPointer(name::particleContributing, &a.contributing) ||
      kim->GetArgumentPointer(name::coordinates, &coordinates) || kim->GetArgumentPointer(name::partialEnergy, &energy) ||
      kim->GetArgumentPointer(name::partialForces, &forces)) {
    return true;
  }
  a.n = *n;
  if (model.fault == "species_refused" && std::find(a.species, a.species + a.n, 1) != a.species + a.n) return true;
  if (model.fault == "crashes_on_images" && std::find(a.contributing, a.contributing + a.n, 0) != a.contributing + a.n) {
    std::abort();
  }
  if (model.fault == "memory_leaked") new double[16];
  if (model.fault == "static_buffer") {
    static double shared[30000];
    std::copy(coordinates, coordinates + 3 * a.n, shared);
    std::this_thread::sleep_for(std::chrono::microseconds(20));
    coordinates = shared;
  }
  a.forces.resize(a.n);
  a.positions.resize(a.n);
  for (int i = 0; i < a.n; ++i) {
    for (int k = 0; k < 3; ++k) a.positions[i][k] = coordinates[3 * i + k] / model.length;
  }
  for (int i = 0; i < a.n; ++i) {
    if (!a.contributing[i]) continue;
    int count = 0;
    const int* neighbors = nullptr;
    if (kim->GetNeighborList(0, i, &count, &neighbors)) return true;
    for (int index = 0; index < count; ++index) add_pair(a, i, neighbors[index], model.fault);
    if (model.fault == "chiral") add_chirality(a, i, neighbors, count);
  }
  if (energy) *energy = model.energy * a.energy;
  const double force_factor = model.energy / model.length * (model.fault == "wrong_forces" ? 0.5 : 1.0);
  for (int i = 0; forces && i < a.n; ++i) {
    for (int k = 0; k < 3; ++k) forces[3 * i + k] = force_factor * a.forces[i][k];
  }
  return false;
}

int compute_arguments_create(const KIM::ModelCompute*, KIM::ModelComputeArgumentsCreate* arguments) {
  namespace name = KIM::COMPUTE_ARGUMENT_NAME;
  return arguments->SetArgumentSupportStatus(name::partialEnergy, KIM::SUPPORT_STATUS::optional) ||
         arguments->SetArgumentSupportStatus(name::partialForces, KIM::SUPPORT_STATUS::optional);
}

int compute_arguments_destroy(const KIM::ModelCompute*, KIM::ModelComputeArgumentsDestroy*) { return false; }

int destroy(KIM::ModelDestroy* destroy) {
  void* buffer = nullptr;
  destroy->GetModelBufferPointer(&buffer);
  delete static_cast<Model*>(buffer);
  return false;
}

bool set_units(Model& model, KIM::LengthUnit length, KIM::EnergyUnit energy) {
  const auto charge = KIM::CHARGE_UNIT::unused;
  const auto temperature = KIM::TEMPERATURE_UNIT::unused;
  const auto time = KIM::TIME_UNIT::unused;
  const auto factor = [&](double lengths, double energies, double* result) {
    return KIM::ModelCreate::ConvertUnit(KIM::LENGTH_UNIT::A, KIM::ENERGY_UNIT::eV, charge, temperature, time, length,
                                         energy, charge, temperature, time, lengths, energies, 0.0, 0.0, 0.0, result);
  };
  if (factor(1.0, 0.0, &model.length) || factor(0.0, 1.0, &model.energy)) return false;
  if (model.fault == "units_ignored") model.length = model.energy = 1.0;
  model.influence_distance = kCutoff * model.length;
  return true;
}

}  // namespace

extern "C" int broken_model_create(KIM::ModelCreate* const create, KIM::LengthUnit const length,
                                   KIM::EnergyUnit const energy, KIM::ChargeUnit const, KIM::TemperatureUnit const,
                                   KIM::TimeUnit const) {
  namespace routine = KIM::MODEL_ROUTINE_NAME;
  const char* fault = std::getenv("BROKEN_MODEL_FAULT");
  auto* model = new Model;
  model->fault = fault ? fault : "";
  const auto set = [&](KIM::ModelRoutineName name, auto* function) {
    return create->SetRoutinePointer(name, KIM::LANGUAGE_NAME::cpp, true, reinterpret_cast<KIM::Function*>(function));
  };
  const bool failed =
      !set_units(*model, length, energy) ||
      create->SetUnits(length, energy, KIM::CHARGE_UNIT::unused, KIM::TEMPERATURE_UNIT::unused,
                       KIM::TIME_UNIT::unused) ||
      create->SetModelNumbering(KIM::NUMBERING::zeroBased) || create->SetSpeciesCode(KIM::SPECIES_NAME::Si, 0) ||
      create->SetSpeciesCode(KIM::SPECIES_NAME::C, 1) ||
      set(routine::ComputeArgumentsCreate, compute_arguments_create) || set(routine::Compute, compute) ||
      set(routine::ComputeArgumentsDestroy, compute_arguments_destroy) || set(routine::Destroy, destroy);
  if (failed) {
    delete model;
    return true;
  }
  create->SetInfluenceDistancePointer(&model->influence_distance);
  create->SetNeighborListPointers(1, &model->influence_distance, &model->no_neighbors_of_ghosts);
  create->SetModelBufferPointer(model);
  return false;
}
