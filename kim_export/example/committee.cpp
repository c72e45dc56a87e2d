// A simulator that asks a committee how sure it is: energy and forces of a periodic cell, and their standard deviations.
//
//     c++ -std=c++20 -I.. committee.cpp -o committee $(pkg-config --cflags --libs libkim-api)
//     ./committee MODEL CELL
//
// CELL is a text file: the three cell vectors, then a line `Si 0.0 0.0 0.0` for each atom; Å.

#include <array>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "KIM_SimulatorHeaders.hpp"
#include "committee.h"

using Vector = std::array<double, 3>;

struct Cell {
  std::array<Vector, 3> vectors;
  std::vector<std::string> symbols;
  std::vector<Vector> positions;
};

// Particles as KIM wants them: the atoms, then their images within some distance of the cell.
struct Particles {
  std::vector<double> coordinates;
  std::vector<int> codes, contributing;
  std::vector<int> owner;  // of each particle, the atom that it is an image of; an atom owns itself
  std::vector<std::vector<int>> neighbors;
};

void require(int error, const char* what) {
  if (error) throw std::runtime_error(std::string(what) + " failed; kim.log says why");
}

Cell read(const char* file) {
  std::ifstream stream(file);
  Cell cell;
  for (auto& vector : cell.vectors) {
    for (double& x : vector) stream >> x;
  }
  std::string symbol;
  for (Vector r; stream >> symbol >> r[0] >> r[1] >> r[2];) {
    cell.symbols.push_back(symbol);
    cell.positions.push_back(r);
  }
  if (cell.symbols.empty()) throw std::runtime_error(std::string("no atoms in ") + file);
  return cell;
}

double distance(const double* a, const double* b) { return std::hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]); }

// Every image of every atom that is within `reach` of an atom. A real simulator would not try so many.
Particles surrounded(const Cell& cell, const std::vector<int>& codes, double reach, double cutoff) {
  Particles particles;
  const auto add = [&](const Vector& r, int atom, int contributing) {
    particles.coordinates.insert(particles.coordinates.end(), r.begin(), r.end());
    particles.codes.push_back(codes[atom]);
    particles.contributing.push_back(contributing);
    particles.owner.push_back(atom);
  };
  const int atoms = static_cast<int>(codes.size());
  for (int atom = 0; atom < atoms; ++atom) add(cell.positions[atom], atom, 1);
  const int most = 12;
  for (int a = -most; a <= most; ++a) {
    for (int b = -most; b <= most; ++b) {
      for (int c = -most; c <= most; ++c) {
        for (int atom = 0; atom < atoms && (a || b || c); ++atom) {
          Vector r = cell.positions[atom];
          for (int axis = 0; axis < 3; ++axis) {
            r[axis] += a * cell.vectors[0][axis] + b * cell.vectors[1][axis] + c * cell.vectors[2][axis];
          }
          bool near = false;
          for (int other = 0; other < atoms && !near; ++other) {
            near = distance(r.data(), cell.positions[other].data()) <= reach;
          }
          if (near) add(r, atom, 0);
        }
      }
    }
  }
  const int n = static_cast<int>(particles.codes.size());
  particles.neighbors.resize(n);
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) {
      const double* r = particles.coordinates.data();
      if (i != j && distance(r + 3 * i, r + 3 * j) <= cutoff) particles.neighbors[i].push_back(j);
    }
  }
  return particles;
}

// KIM's callback GetNeighborList.
int get_neighbors(void* data, int, const double*, int, int particle, int* count, const int** list) {
  const auto& neighbors = static_cast<const Particles*>(data)->neighbors[particle];
  *count = static_cast<int>(neighbors.size());
  *list = neighbors.data();
  return false;
}

void run(const char* model_name, const Cell& cell) {
  int accepted = 0;
  KIM::Model* model = nullptr;
  require(KIM::Model::Create(KIM::NUMBERING::zeroBased, KIM::LENGTH_UNIT::A, KIM::ENERGY_UNIT::eV,
                             KIM::CHARGE_UNIT::e, KIM::TEMPERATURE_UNIT::K, KIM::TIME_UNIT::ps, model_name, &accepted,
                             &model),
          "KIM::Model::Create");
  std::vector<int> codes;
  for (const auto& symbol : cell.symbols) {
    int supported = 0, code = 0;
    model->GetSpeciesSupportAndCode(KIM::SpeciesName(symbol), &supported, &code);
    require(!supported, "a species of the cell");
    codes.push_back(code);
  }
  double reach = 0.0;
  int lists = 0;
  const double* cutoffs = nullptr;
  const int* hints = nullptr;
  model->GetInfluenceDistance(&reach);
  model->GetNeighborListPointers(&lists, &cutoffs, &hints);
  Particles particles = surrounded(cell, codes, reach, cutoffs[0]);
  const int n = static_cast<int>(particles.codes.size());

  KIM::ComputeArguments* arguments = nullptr;
  require(model->ComputeArgumentsCreate(&arguments), "KIM::Model::ComputeArgumentsCreate");
  namespace name = KIM::COMPUTE_ARGUMENT_NAME;
  double energy = 0.0;
  std::vector<double> forces(3 * n);
  require(arguments->SetCallbackPointer(KIM::COMPUTE_CALLBACK_NAME::GetNeighborList, KIM::LANGUAGE_NAME::cpp,
                                        reinterpret_cast<KIM::Function*>(get_neighbors), &particles) ||
              arguments->SetArgumentPointer(name::numberOfParticles, &n) ||
              arguments->SetArgumentPointer(name::particleSpeciesCodes, particles.codes.data()) ||
              arguments->SetArgumentPointer(name::particleContributing, particles.contributing.data()) ||
              arguments->SetArgumentPointer(name::coordinates, particles.coordinates.data()) ||
              arguments->SetArgumentPointer(name::partialEnergy, &energy) ||
              arguments->SetArgumentPointer(name::partialForces, forces.data()),
          "setting the compute arguments");

  // Up to here as for KIM::Model::Compute, in whose place the extension is called: it writes energy and forces too.
  std::vector<double> deviation(3 * n);
  double energy_deviation = 0.0;
  kimgnn_committee_deviation committee{};
  committee.size = sizeof committee;
  committee.compute_arguments = arguments;
  committee.owner = particles.owner.data();
  committee.energy_deviation = &energy_deviation;
  committee.forces_deviation = deviation.data();
  require(model->Extension(KIMGNN_COMMITTEE_DEVIATION, &committee), "the extension " KIMGNN_COMMITTEE_DEVIATION);

  for (int particle = static_cast<int>(codes.size()); particle < n; ++particle) {
    for (int axis = 0; axis < 3; ++axis) forces[3 * particles.owner[particle] + axis] += forces[3 * particle + axis];
  }
  std::printf("members %d\nenergy %.12g deviation %.12g\n", committee.members, energy, energy_deviation);
  for (std::size_t atom = 0; atom < codes.size(); ++atom) {
    const double *f = &forces[3 * atom], *d = &deviation[3 * atom];
    std::printf("%s %.12g %.12g %.12g deviation %.12g %.12g %.12g\n", cell.symbols[atom].c_str(), f[0], f[1], f[2],
                d[0], d[1], d[2]);
  }
  require(model->ComputeArgumentsDestroy(&arguments), "KIM::Model::ComputeArgumentsDestroy");
  KIM::Model::Destroy(&model);
}

int main(int count, char** words) {
  try {
    if (count != 3) throw std::runtime_error("usage: committee MODEL CELL");
    run(words[1], read(words[2]));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
