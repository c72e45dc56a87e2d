// Runs a TorchScript network with libtorch. Its contract:
//     forward(species_codes (N,) int64, edge_index (2, E) int64, edge_vectors (E, 3) float64,
//             node_counts: List[int], edge_counts: List[int]) -> atomic energies (node_counts[-1],) float64, eV

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>

#include <algorithm>

#include "backend.hpp"

namespace kimgnn {
namespace {

// torch's threads are the process's, which may be a Python session of the user's: put back what was there.
class ThreadsGuard {
 public:
  explicit ThreadsGuard(int num_threads) : before_(at::get_num_threads()) { set(num_threads); }
  ~ThreadsGuard() { set(before_); }
  ThreadsGuard(const ThreadsGuard&) = delete;
  ThreadsGuard& operator=(const ThreadsGuard&) = delete;

 private:
  static void set(int num_threads) {
    if (num_threads != at::get_num_threads()) at::set_num_threads(num_threads);
  }
  int before_;
};

// Turns whatever torch throws into an Error that says what to do. Its C++ stack trace helps no user.
template <typename Function>
auto explained(const std::string& what, const std::string& cure, Function function) {
  try {
    return function();
  } catch (const Error&) {
    throw;
  } catch (const c10::Error& error) {
    throw Error(what + ".\n" + error.what_without_backtrace() + "\n" + cure);
  } catch (const std::exception& error) {
    throw Error(what + ".\n" + error.what() + "\n" + cure);
  }
}

// A tensor on the caller's memory. Networks do not write into their inputs.
template <typename Number>
torch::Tensor as_tensor(std::span<const Number> values, at::IntArrayRef shape) {
  return torch::from_blob(const_cast<Number*>(values.data()), shape, c10::CppTypeToScalarType<Number>::value);
}

std::vector<std::int64_t> as_list(std::span<const std::int64_t> values) { return {values.begin(), values.end()}; }

void copy_out(const torch::Tensor& tensor, std::span<double> values) {
  const auto source = tensor.to(torch::kCPU).contiguous();
  std::copy_n(source.const_data_ptr<double>(), values.size(), values.begin());
}

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
  TorchScriptBackend(const std::filesystem::path& model_file, const Runtime& runtime)
      : name_(model_file.filename()), num_threads_(runtime.num_threads) {
    device_ = explained("KIMGNN_DEVICE='" + runtime.device + "' cannot be used",
                        "Unset it to run on the CPU; cuda and cuda:<number> need a CUDA build of torch and a GPU.",
                        [&] {
                          const torch::Device device(runtime.device);
                          torch::empty({1}, device);
                          return device;
                        });
    const ThreadsGuard threads(num_threads_);
    module_ = explained(name_ + " cannot be loaded",
                        "The file is damaged, or written by a newer torch than this driver's. Export the model again "
                        "with `kimgnn export`, and bring the driver up to date with `kimgnn driver install --force`.",
                        [&] { return torch::jit::load(model_file, device_); });
    module_.eval();
    for (auto weight : module_.parameters()) weight.set_requires_grad(false);
  }

  void evaluate(const Graph& graph, std::span<double> energies, std::span<double> gradient) const override {
    explained(name_ + " failed", "Export the model again with `kimgnn export`.",
              [&] { run(graph, energies, gradient); });
  }

 private:
  void run(const Graph& graph, std::span<double> energies, std::span<double> gradient) const {
    const ThreadsGuard threads(num_threads_);
    const torch::AutoGradMode differentiate(!gradient.empty());
    // Every step has other shapes: torch would specialise the code anew for each, which costs more than it brings.
    const torch::jit::GraphOptimizerEnabledGuard as_written(false);

    const auto num_nodes = static_cast<std::int64_t>(graph.num_nodes());
    const auto num_edges = static_cast<std::int64_t>(graph.num_edges());
    const auto num_contributing = static_cast<std::int64_t>(graph.num_contributing());
    const auto vectors =
        as_tensor(graph.edge_vectors, {num_edges, 3}).to(device_).set_requires_grad(!gradient.empty());
    const auto forward = module_.get_method("forward");
    const torch::Tensor atomic_energies =
        forward({as_tensor(graph.species_codes, {num_nodes}).to(device_),
                 as_tensor(graph.edge_index, {2, num_edges}).to(device_), vectors, as_list(graph.node_counts),
                 as_list(graph.edge_counts)})
            .toTensor();
    if (atomic_energies.scalar_type() != torch::kFloat64 ||
        atomic_energies.sizes() != at::IntArrayRef{num_contributing}) {
      throw Error(name_ + " returned " + c10::str(atomic_energies.scalar_type(), atomic_energies.sizes()) +
                  " where one float64 energy for each of " + std::to_string(num_contributing) +
                  " atoms is expected. Export the model again with `kimgnn export`.");
    }
    copy_out(atomic_energies.detach(), energies);
    if (gradient.empty()) return;
    if (!atomic_energies.requires_grad()) {
      throw Error(name_ + " gives energies that do not depend on the edge vectors, so they have no forces. Export the "
                  "model again with `kimgnn export`.");
    }
    copy_out(gradient_of_sum(atomic_energies, vectors), gradient);
  }

  std::string name_;
  int num_threads_;
  torch::Device device_{torch::kCPU};
  torch::jit::Module module_;
};

}  // namespace

std::string backend_name() { return "torchscript"; }

std::unique_ptr<Backend> load_backend(const std::filesystem::path& model_file, const Runtime& runtime) {
  return std::make_unique<TorchScriptBackend>(model_file, runtime);
}

}  // namespace kimgnn
