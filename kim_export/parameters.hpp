// The parameter file of a model: what the driver must know before it opens the network.

#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace kimgnn {

inline constexpr const char* kParameterFile = "kimgnn.param";

struct Parameters {
  std::string backend;               // which kind of network: "torchscript", "pt2", "onnx"
  std::filesystem::path model_file;  // absolute
  double cutoff;                     // Å
  int layers;                        // message-passing layers; the influence distance is cutoff * layers
  std::vector<std::string> species;  // KIM species names, in order of their codes
  int members;                       // of a committee; 1 for a single network
};

// Reads `directory`/kimgnn.param, which holds exactly these lines, in this order:
//     kimgnn 2
//     backend torchscript
//     model model.pt
//     cutoff 4.0
//     layers 3
//     species Si C
// and, of a committee, which is of version 3, one more:
//     members 5
// Throws Error naming file, line and cure.
Parameters read_parameters(const std::filesystem::path& directory);

}  // namespace kimgnn
