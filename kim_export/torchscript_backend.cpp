// Runs a TorchScript network with libtorch. Its contract, with the shapes of Graph:
//     forward(species_codes, edge_index, edge_vectors, node_counts: List[int], edge_counts: List[int], reverse_edge)
//         -> atomic energies (node_counts[-1],) float64, eV
// of a committee, which has an attribute num_members,
//     member(index: int, and the same) -> what that member says

#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>

#include "libtorch.hpp"

namespace kimgnn {
namespace {

std::vector<std::int64_t> as_list(std::span<const std::int64_t> values) { return {values.begin(), values.end()}; }

// As torch::autograd::grad, but on the engine without Python. In a Python process the default engine refuses to run
// while the interpreter's lock is held, as ASE and kimpy do by default; no TorchScript network calls Python.
torch::Tensor gradient_of_sum(const torch::Tensor& values, const torch::Tensor& variable) {
  using torch::autograd::impl::gradient_edge;
  return torch::autograd::Engine::get_base_engine()
      .execute({gradient_edge(values)}, {torch::ones_like(values)}, /*keep_graph=*/false, /*create_graph=*/false,
               /*accumulate_grad=*/false, {gradient_edge(variable)})
      .front();
}

class TorchScriptBackend final : public Backend {
 public:
  TorchScriptBackend(const std::filesystem::path& model_file, int members, const Runtime& runtime)
      : name_(model_file.filename()),
        members_(members),
        num_threads_(runtime.num_threads),
        device_(working_device(runtime.device)) {
    const ThreadsGuard threads(num_threads_);
    module_ = explained(name_ + " cannot be loaded", kDamagedOrNewer,
                        [&] { return torch::jit::load(model_file, device_); });
    module_.eval();
    for (auto weight : module_.parameters()) weight.set_requires_grad(false);
    const auto found = module_.hasattr("num_members") ? module_.attr("num_members").toInt() : 1;
    if (found != members_) {
      throw Error(name_ + " holds " + std::to_string(found) + " networks where the parameter file says " +
                  std::to_string(members_) + ". " + kExportAgain);
    }
  }

  void evaluate(const Graph& graph, std::span<double> energies, std::span<double> gradient) const override {
    explained(name_ + " failed", kExportAgain, [&] { run(graph, energies, gradient); });
  }

 private:
  void run(const Graph& graph, std::span<double> energies, std::span<double> gradient) const {
    const ThreadsGuard threads(num_threads_);
    const MemoryKept memory;
    const torch::AutoGradMode differentiate(!gradient.empty());
    // Every step has other shapes: torch would specialise the code anew for each, which costs more than it brings.
    const torch::jit::GraphOptimizerEnabledGuard as_written(false);

    const auto num_nodes = static_cast<std::int64_t>(graph.num_nodes());
    const auto num_edges = static_cast<std::int64_t>(graph.num_edges());
    const auto num_contributing = static_cast<std::int64_t>(graph.num_contributing());
    const auto vectors =
        as_tensor(graph.edge_vectors, {num_edges, 3}).to(device_).set_requires_grad(!gradient.empty());
    std::vector<torch::IValue> inputs = {as_tensor(graph.species_codes, {num_nodes}).to(device_),
                                         as_tensor(graph.edge_index, {2, num_edges}).to(device_),
                                         vectors,
                                         as_list(graph.node_counts),
                                         as_list(graph.edge_counts),
                                         as_tensor(graph.reverse_edge, {num_edges}).to(device_)};
    const auto forward = module_.get_method(members_ == 1 ? "forward" : "member");
    if (members_ > 1) inputs.insert(inputs.begin(), 0);
    // One member after the other: what one needs for its derivative is free for the next.
    for (int member = 0; member < members_; ++member) {
      if (members_ > 1) inputs.front() = member;
      const torch::Tensor atomic_energies = forward(inputs).toTensor();
      copy_out(atomic_energies.detach(), {num_contributing}, of_member(energies, member, members_));
      if (gradient.empty()) continue;
      if (!atomic_energies.requires_grad()) {
        throw Error(name_ + " gives energies that do not depend on the edge vectors, so they have no forces. " +
                    kExportAgain);
      }
      copy_out(gradient_of_sum(atomic_energies, vectors), {num_edges, 3}, of_member(gradient, member, members_));
    }
  }

  std::string name_;
  int members_;
  int num_threads_;
  torch::Device device_;
  torch::jit::Module module_;
};

}  // namespace

std::unique_ptr<Backend> load_torchscript(const std::filesystem::path& model_file, int members,
                                          const Runtime& runtime) {
  return std::make_unique<TorchScriptBackend>(model_file, members, runtime);
}

}  // namespace kimgnn
