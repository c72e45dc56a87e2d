// Runs an ONNX network with ONNX Runtime's C library, which lies beside the driver. Its contract is kSignature, with the
// shapes of Graph; atomic_energies is (node_counts[-1],), gradient (E, 3). A committee has kMemberOutputs besides, which
// are the same with M members in front.

#include <dlfcn.h>

#include <array>
#include <initializer_list>
#include <string_view>
#include <type_traits>
#include <vector>

#include "backend.hpp"
#include "onnxruntime.hpp"
#include "table_operators.hpp"

namespace kimgnn {
namespace {

constexpr const char* kLibrary = "libonnxruntime.so.1";
constexpr std::uint32_t kApiVersion = 20;  // came with ONNX Runtime 1.20, the oldest that reads what kimgnn exports
constexpr const char* kReinstall =
    " To bring ONNX Runtime up to date, run `pip install -U 'onnxruntime<2'`, then `kimgnn driver install onnx --force`.";
constexpr const char* kLoading = " cannot be loaded: ";
constexpr const char* kRunning = " failed: ";

constexpr std::array kInputs = {"species_codes", "edge_index",  "edge_vectors",
                                "node_counts",   "edge_counts", "reverse_edge"};
constexpr std::array kOutputs = {"atomic_energies", "gradient"};
constexpr std::array kMemberOutputs = {"member_energies", "member_gradients"};
constexpr std::string_view kSignature =
    "species_codes int64 1D, edge_index int64 2D, edge_vectors float64 2D, node_counts int64 1D, edge_counts int64 1D, "
    "reverse_edge int64 1D -> atomic_energies float64 1D, gradient float64 2D";
constexpr std::string_view kMemberSignature = ", member_energies float64 2D, member_gradients float64 3D";

// Beside the driver, not in the Python environment that it came from, which may be gone tomorrow.
std::filesystem::path library_file() {
  Dl_info driver{};
  dladdr(reinterpret_cast<const void*>(&load_onnx), &driver);
  return std::filesystem::absolute(driver.dli_fname).parent_path() / kLibrary;
}

struct Library {
  const OrtApi& api;
  std::string version;
};

// Does not close the library, which would have to be loaded again for the next model of the process.
Library open_library() {
  const auto file = library_file();
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw Error("ONNX Runtime cannot be loaded: " + std::string(dlerror()) + "." + kReinstall);
  const auto base = reinterpret_cast<decltype(&OrtGetApiBase)>(dlsym(library, "OrtGetApiBase"));
  if (base == nullptr) throw Error(file.string() + " is not ONNX Runtime." + kReinstall);
  const std::string version = base()->GetVersionString();
  const OrtApi* api = version.starts_with("1.") ? base()->GetApi(kApiVersion) : nullptr;
  if (api == nullptr) {
    throw Error(file.string() + " is ONNX Runtime " + version + "; this driver needs 1.20 or later, below 2." +
                kReinstall);
  }
  return {*api, version};
}

// Something of ONNX Runtime's that is released when it goes.
template <typename T>
using Handle = std::unique_ptr<T, void (*)(T*)>;

template <typename Handles>
std::vector<OrtValue*> pointers(const Handles& handles) {
  std::vector<OrtValue*> values;
  for (const auto& handle : handles) values.push_back(handle.get());
  return values;
}

class OnnxBackend final : public Backend {
 public:
  OnnxBackend(const std::filesystem::path& model_file, int members, const Runtime& runtime)
      : name_(model_file.filename()), members_(members) {
    if (runtime.device != "cpu") {
      throw Error("KIMGNN_DEVICE='" + runtime.device + "' cannot be used: the ONNX driver runs on the CPU. Unset it, "
                  "or export the model as torchscript.");
    }
    const auto options = make<OrtSessionOptions>(kLoading, api_.ReleaseSessionOptions, api_.CreateSessionOptions);
    check(kLoading, api_.SetIntraOpNumThreads(options.get(), runtime.num_threads));
    check(kLoading, api_.SetInterOpNumThreads(options.get(), 1));
    // Waiting threads would take cores from other ranks, and from what the simulator does between two steps.
    check(kLoading, api_.AddSessionConfigEntry(options.get(), "session.intra_op.allow_spinning", "0"));
    // Plans of the memory for one set of shapes are of no use: every step has others.
    check(kLoading, api_.DisableMemPattern(options.get()));
    operators_ = make<OrtCustomOpDomain>(kLoading, api_.ReleaseCustomOpDomain, api_.CreateCustomOpDomain, kTableDomain);
    for (const OrtCustomOp* op : table_operators()) check(kLoading, api_.CustomOpDomain_Add(operators_.get(), op));
    check(kLoading, api_.AddCustomOpDomain(options.get(), operators_.get()));
    session_ = make<OrtSession>(kLoading, api_.ReleaseSession, api_.CreateSession, env_.get(), model_file.c_str(),
                                options.get());
    const std::string expected = std::string(kSignature) + std::string(members_ == 1 ? "" : kMemberSignature);
    if (const auto found = signature(); found != expected) {
      throw Error(name_ + " is not a network for this driver. It has\n  " + found + "\nwhere it must have\n  " +
                  expected + "\n" + kExportAgain);
    }
  }

  void evaluate(const Graph& graph, std::span<double> energies, std::span<double> gradient) const override {
    const auto num_nodes = static_cast<std::int64_t>(graph.num_nodes());
    const auto num_edges = static_cast<std::int64_t>(graph.num_edges());
    const auto num_layers = static_cast<std::int64_t>(graph.node_counts.size());
    const auto num_contributing = static_cast<std::int64_t>(graph.num_contributing());
    const std::array inputs = {tensor(graph.species_codes, {num_nodes}), tensor(graph.edge_index, {2, num_edges}),
                               tensor(graph.edge_vectors, {num_edges, 3}), tensor(graph.node_counts, {num_layers}),
                               tensor(graph.edge_counts, {num_layers}), tensor(graph.reverse_edge, {num_edges})};
    const bool single = members_ == 1;
    std::vector<Handle<OrtValue>> outputs;
    outputs.push_back(single ? tensor<double>(energies, {num_contributing})
                             : tensor<double>(energies, {members_, num_contributing}));
    if (!gradient.empty()) {
      outputs.push_back(single ? tensor<double>(gradient, {num_edges, 3})
                               : tensor<double>(gradient, {members_, num_edges, 3}));
    }

    auto written = pointers(outputs);
    check(kRunning, api_.Run(session_.get(), nullptr, kInputs.data(), pointers(inputs).data(), inputs.size(),
                             (single ? kOutputs : kMemberOutputs).data(), written.size(), written.data()));
  }

 private:
  // ONNX Runtime's status is null where all is well, and else ours to release.
  void check(const char* what, OrtStatus* status) const {
    if (status == nullptr) return;
    const Handle<OrtStatus> handle(status, api_.ReleaseStatus);
    throw Error(name_ + what + api_.GetErrorMessage(status) + ".\nThe file is damaged, or needs a newer ONNX Runtime "
                "than " + library_.version + ", which lies beside the driver. " + kExportAgain + kReinstall);
  }

  template <typename T, typename Create, typename... Arguments>
  Handle<T> make(const char* what, void (*release)(T*), Create create, Arguments... arguments) const {
    T* made = nullptr;
    check(what, create(arguments..., &made));
    return {made, release};
  }

  // A tensor on the caller's memory.
  template <typename Number>
  Handle<OrtValue> tensor(std::span<const Number> values, std::initializer_list<std::int64_t> shape) const {
    constexpr auto type =
        std::is_same_v<Number, double> ? ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    return make<OrtValue>(kRunning, api_.ReleaseValue, api_.CreateTensorWithDataAsOrtValue, cpu_.get(),
                          const_cast<Number*>(values.data()), values.size_bytes(), shape.begin(), shape.size(), type);
  }

  // What the network takes and gives, written as kSignature is.
  std::string signature() const {
    std::size_t num_inputs = 0, num_outputs = 0;
    check(kLoading, api_.SessionGetInputCount(session_.get(), &num_inputs));
    check(kLoading, api_.SessionGetOutputCount(session_.get(), &num_outputs));
    std::string text;
    for (std::size_t i = 0; i < num_inputs; ++i) {
      text += (i == 0 ? "" : ", ") + describe(i, api_.SessionGetInputName, api_.SessionGetInputTypeInfo);
    }
    for (std::size_t i = 0; i < num_outputs; ++i) {
      text += (i == 0 ? " -> " : ", ") + describe(i, api_.SessionGetOutputName, api_.SessionGetOutputTypeInfo);
    }
    return text;
  }

  template <typename GetName, typename GetInfo>
  std::string describe(std::size_t index, GetName get_name, GetInfo get_info) const {
    OrtAllocator* allocator = nullptr;
    check(kLoading, api_.GetAllocatorWithDefaultOptions(&allocator));
    char* raw_name = nullptr;
    check(kLoading, get_name(session_.get(), index, allocator, &raw_name));
    const std::string name = raw_name;
    check(kLoading, api_.AllocatorFree(allocator, raw_name));

    const auto info = make<OrtTypeInfo>(kLoading, api_.ReleaseTypeInfo, get_info, session_.get(), index);
    const OrtTensorTypeAndShapeInfo* tensor = nullptr;
    check(kLoading, api_.CastTypeInfoToTensorInfo(info.get(), &tensor));
    if (tensor == nullptr) return name + " not a tensor";
    ONNXTensorElementDataType type{};
    std::size_t rank = 0;
    check(kLoading, api_.GetTensorElementType(tensor, &type));
    check(kLoading, api_.GetDimensionsCount(tensor, &rank));
    const std::string type_name = type == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64    ? "int64"
                                  : type == ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE ? "float64"
                                                                                 : "type " + std::to_string(type);
    return name + " " + type_name + " " + std::to_string(rank) + "D";
  }

  std::string name_;
  std::int64_t members_;
  Library library_ = open_library();
  const OrtApi& api_ = library_.api;
  Handle<OrtEnv> env_ = make<OrtEnv>(kLoading, api_.ReleaseEnv, api_.CreateEnv, ORT_LOGGING_LEVEL_ERROR, "kimgnn");
  Handle<OrtMemoryInfo> cpu_ = make<OrtMemoryInfo>(kLoading, api_.ReleaseMemoryInfo, api_.CreateCpuMemoryInfo,
                                                   OrtDeviceAllocator, OrtMemTypeDefault);
  Handle<OrtCustomOpDomain> operators_{nullptr, nullptr};  // outlives the session
  Handle<OrtSession> session_{nullptr, nullptr};
};

}  // namespace

std::unique_ptr<Backend> load_onnx(const std::filesystem::path& model_file, int members, const Runtime& runtime) {
  return std::make_unique<OnnxBackend>(model_file, members, runtime);
}

}  // namespace kimgnn
