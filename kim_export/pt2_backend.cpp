// Runs a pt2 network, which torch.export and AOTInductor have compiled to machine code. Its contract: the tensors that
// inputs() makes, with the shapes of Graph and P pairs of edges -> atomic_energies (node_counts[-1],), gradient (E, 3)
// and, of a committee, the same of each member: (M, node_counts[-1]), (M, E, 3).

#include <ATen/core/grad_mode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "libtorch.hpp"

namespace kimgnn {
namespace {

// An edge and its reverse are a pair, known by the first of them; pairs are in the order of these.
struct Pairs {
  std::vector<std::int64_t> edge_of_pair;  // (P,)
  std::vector<std::int64_t> pair_of_edge;  // (E,)
  std::vector<std::int64_t> pair_counts;   // (L,) pairs whose first edge is one of the layer's

  explicit Pairs(const Graph& graph) : pair_of_edge(graph.num_edges()) {
    std::vector<std::int64_t> pairs_before(graph.num_edges() + 1);
    for (std::size_t edge = 0; edge < graph.num_edges(); ++edge) {
      const auto reverse = static_cast<std::size_t>(graph.reverse_edge[edge]);
      if (edge < reverse) {
        pair_of_edge[edge] = static_cast<std::int64_t>(edge_of_pair.size());
        edge_of_pair.push_back(static_cast<std::int64_t>(edge));
      } else {
        pair_of_edge[edge] = pair_of_edge[reverse];
      }
      pairs_before[edge + 1] = static_cast<std::int64_t>(edge_of_pair.size());
    }
    for (const auto count : graph.edge_counts) pair_counts.push_back(pairs_before[static_cast<std::size_t>(count)]);
  }
};

using Package = torch::inductor::AOTIModelPackageLoader;

// The package of a file, which all models of that content share until the process ends: the dynamic linker never unloads
// a compiled library (it has symbols of the kind GNU_UNIQUE), so each loading would keep memory for good. Not by the
// file's path, because KIM writes a model's files into a new folder each time that it creates the model.
Package& shared_package(const std::filesystem::path& model_file) {
  static std::mutex one_at_a_time;
  static std::map<std::string, std::unique_ptr<Package>> packages;

  std::ifstream file(model_file, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(file), {}};
  const std::lock_guard lock(one_at_a_time);
  auto found = packages.find(content);
  if (found == packages.end()) {
    // A runner computes for one thread at a time; they share the weights.
    const std::size_t runners = std::max(std::thread::hardware_concurrency(), 1U);
    auto package = std::make_unique<Package>(model_file, "model", /*run_single_threaded=*/false, runners);
    found = packages.emplace(std::move(content), std::move(package)).first;
  }
  return *found->second;
}

class Pt2Backend final : public Backend {
 public:
  Pt2Backend(const std::filesystem::path& model_file, int members, const Runtime& runtime)
      : name_(model_file.filename()),
        members_(members),
        num_threads_(runtime.num_threads),
        device_(working_device(runtime.device)) {
    const ThreadsGuard threads(num_threads_);
    package_ = explained(name_ + " cannot be loaded", kDamagedOrNewer, [&] { return &shared_package(model_file); });
    if (const auto compiled_for = package_->get_metadata()["AOTI_DEVICE_KEY"];
        compiled_for != c10::DeviceTypeName(device_.type(), /*lower_case=*/true)) {
      throw Error(name_ + " is compiled for the device '" + compiled_for + "', and KIMGNN_DEVICE='" + runtime.device +
                  "'. Set that to '" + compiled_for + "', or export the model as torchscript, which runs on any.");
    }
  }

  void evaluate(const Graph& graph, std::span<double> energies, std::span<double> gradient) const override {
    explained(name_ + " failed", kExportAgain, [&] {
      const ThreadsGuard threads(num_threads_);
      const MemoryKept memory;
      const at::NoGradGuard already_differentiated;
      const Pairs pairs(graph);
      const auto outputs = package_->run(inputs(graph, pairs));
      const std::size_t expected = members_ == 1 ? 2 : 4;
      if (outputs.size() != expected) {
        throw Error(name_ + " returned " + std::to_string(outputs.size()) + " tensors where the atomic energies and "
                    "their gradient" + (members_ == 1 ? "" : ", and those of the members,") + " are expected. " +
                    kExportAgain);
      }
      std::vector<std::int64_t> of_atoms = {static_cast<std::int64_t>(graph.num_contributing())};
      std::vector<std::int64_t> of_edges = {static_cast<std::int64_t>(graph.num_edges()), 3};
      if (members_ > 1) {
        for (auto* shape : {&of_atoms, &of_edges}) shape->insert(shape->begin(), members_);
      }
      copy_out(outputs[expected - 2], of_atoms, energies);
      if (!gradient.empty()) copy_out(outputs[expected - 1], of_edges, gradient);
    });
  }

 private:
  std::vector<at::Tensor> inputs(const Graph& graph, const Pairs& pairs) const {
    const auto num_nodes = static_cast<std::int64_t>(graph.num_nodes());
    const auto num_edges = static_cast<std::int64_t>(graph.num_edges());
    const auto whole = [](const std::vector<std::int64_t>& values) {
      return as_tensor<std::int64_t>(values, {static_cast<std::int64_t>(values.size())});
    };
    std::vector<at::Tensor> tensors = {as_tensor(graph.species_codes, {num_nodes}),
                                       as_tensor(graph.edge_index, {2, num_edges}),
                                       as_tensor(graph.edge_vectors, {num_edges, 3}), whole(pairs.edge_of_pair),
                                       whole(pairs.pair_of_edge)};
    // A compiled network takes nothing but tensors: it is told counts by the lengths of tensors.
    const std::span<const std::int64_t> pair_counts = pairs.pair_counts;
    for (const auto counts : {graph.node_counts, graph.edge_counts, pair_counts}) {
      for (const auto count : counts) tensors.push_back(at::empty({count}, at::kLong));
    }
    for (auto& tensor : tensors) tensor = tensor.to(device_);
    return tensors;
  }

  std::string name_;
  int members_;
  int num_threads_;
  at::Device device_;
  Package* package_ = nullptr;
};

}  // namespace

std::unique_ptr<Backend> load_pt2(const std::filesystem::path& model_file, int members, const Runtime& runtime) {
  return std::make_unique<Pt2Backend>(model_file, members, runtime);
}

}  // namespace kimgnn
