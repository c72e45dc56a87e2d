// What runs a network. KIM knows nothing of it, and it knows nothing of KIM: a new backend is one file beside this one,
// and a line in backends.cpp.

#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>

#include "runtime.hpp"

namespace kimgnn {

// An error whose text is meant for the user: what is wrong and what to do about it.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The usual cure, for the end of an Error's text.
inline constexpr const char* kExportAgain = "Export the model again with `kimgnn export`.";

// A staged graph of N nodes and E edges for L message-passing layers. Nodes are ordered by hop (contributing ones
// first), edges by receiver, so layer k updates the first node_counts[k] nodes from the first edge_counts[k] edges.
struct Graph {
  std::span<const std::int64_t> species_codes;  // (N,) index into the species of the parameter file
  std::span<const std::int64_t> edge_index;     // (2, E) senders, then receivers
  std::span<const double> edge_vectors;         // (E, 3) receiver minus sender, Å
  std::span<const std::int64_t> node_counts;    // (L,) in order of application, non-increasing
  std::span<const std::int64_t> edge_counts;    // (L,)
  std::span<const std::int64_t> reverse_edge;   // (E,) the edge that goes back, or E where the graph does not hold it

  std::size_t num_nodes() const { return species_codes.size(); }
  std::size_t num_edges() const { return edge_vectors.size() / 3; }
  std::size_t num_contributing() const { return static_cast<std::size_t>(node_counts.back()); }
};

// The part of an array, of equal parts for each member, that is one member's.
template <typename Number>
std::span<Number> of_member(std::span<Number> values, int member, int members) {
  const auto size = values.size() / static_cast<std::size_t>(members);
  return values.subspan(static_cast<std::size_t>(member) * size, size);
}

class Backend {
 public:
  virtual ~Backend() = default;

  // Writes, for each of M members, the contributing atoms' energies (M, num_contributing, eV) and, unless `gradient` is
  // empty, the derivative of their sum with respect to the edge vectors (M, E, 3, eV/Å); of an edge and its reverse, only
  // the difference means anything. There is at least one contributing atom. Safe to call from several threads. Throws
  // Error.
  virtual void evaluate(const Graph& graph, std::span<double> energies, std::span<double> gradient) const = 0;
};

// Opens `model_file` with the backend of that name. Throws Error where this library is built without it.
std::unique_ptr<Backend> load_backend(const std::string& name, const std::filesystem::path& model_file, int members,
                                      const Runtime& runtime);

// The backends. A library holds those that share its dependency: KIMGNN_WITH_TORCH the first two, otherwise the last.
std::unique_ptr<Backend> load_torchscript(const std::filesystem::path& model_file, int members, const Runtime& runtime);
std::unique_ptr<Backend> load_pt2(const std::filesystem::path& model_file, int members, const Runtime& runtime);
std::unique_ptr<Backend> load_onnx(const std::filesystem::path& model_file, int members, const Runtime& runtime);

}  // namespace kimgnn
