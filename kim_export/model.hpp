// What the entry points share: the model and its buffers, KIM's log and KIM's arguments.

#pragma once

#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "KIM_ModelDriverHeaders.hpp"
#include "backend.hpp"
#include "committee.hpp"
#include "parameters.hpp"
#include "staged_graph.hpp"
#include "units.hpp"

namespace kimgnn {

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
  explicit Workspace(const Model& owner)
      : model(&owner), graph(owner.parameters.cutoff, owner.parameters.layers) {}
  const Model* model;
  StagedGraph graph;
  std::vector<int> contributing;
  std::vector<double> energies;  // (M, n) of the graph's contributing atoms, as each member says, eV
  std::vector<double> gradient;  // (M, E, 3) of their sum by the edge vectors, eV/Å
  MemberSums* members = nullptr;  // to be filled, where an extension asks
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
inline void require(int error, const std::string& what) {
  if (error) throw Error(what);
}

template <typename Buffer, typename Owner>
Buffer& buffer_of(const Owner* owner) {
  void* pointer = nullptr;
  owner->GetModelBufferPointer(&pointer);
  if (pointer == nullptr) throw Error("KIM gave no buffer back. Create the model and its compute arguments anew.");
  return *static_cast<Buffer*>(pointer);
}

// The array of a compute argument; empty when the simulator does not want it.
template <typename Number>
std::span<Number> array(const KIM::ModelComputeArguments* arguments, KIM::ComputeArgumentName name, int size) {
  Number* pointer = nullptr;
  require(arguments->GetArgumentPointer(name, &pointer), "KIM did not give the argument " + name.ToString() +
                                                             ". Create the compute arguments from this model.");
  return {pointer, pointer == nullptr ? 0 : static_cast<std::size_t>(size)};
}

}  // namespace kimgnn
