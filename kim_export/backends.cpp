#include <algorithm>
#include <array>
#include <string_view>

#include "backend.hpp"

namespace kimgnn {
namespace {

using Load = decltype(&load_onnx);

struct Entry {
  std::string_view name;
  std::string_view driver;
  Load load;  // null where this library is built without it
};

constexpr std::string_view kTorchDriver = "kimgnn__MD_706233094551_001";
constexpr std::string_view kOnnxDriver = "kimgnn_onnx__MD_381945207716_000";

constexpr std::array kBackends = {
#ifdef KIMGNN_WITH_TORCH
    Entry{"torchscript", kTorchDriver, load_torchscript},
    Entry{"pt2", kTorchDriver, load_pt2},
    Entry{"onnx", kOnnxDriver, nullptr},
#else
    Entry{"torchscript", kTorchDriver, nullptr},
    Entry{"pt2", kTorchDriver, nullptr},
    Entry{"onnx", kOnnxDriver, load_onnx},
#endif
};

}  // namespace

std::unique_ptr<Backend> load_backend(const std::string& name, const std::filesystem::path& model_file, int members,
                                      const Runtime& runtime) {
  const auto entry = std::ranges::find(kBackends, name, &Entry::name);
  if (entry == kBackends.end()) {
    throw Error("kimgnn.param: no driver of kimgnn runs '" + name + "' networks, only torchscript, pt2 and onnx. " +
                kExportAgain);
  }
  if (entry->load == nullptr) {
    throw Error("kimgnn.param: this driver does not run '" + name + "' networks; " + std::string(entry->driver) +
                " does. Name that one as DRIVER_NAME in the model's CMakeLists.txt. " + kExportAgain);
  }
  return entry->load(model_file, members, runtime);
}

}  // namespace kimgnn
