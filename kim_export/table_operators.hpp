// Operators of tabulated networks (kimgnn.export.table_operators has their meaning in ONNX's own operators, which a file
// carries for runtimes that lack these): what is made of edges is summed as it is made, and never written down.

#pragma once

#include <span>

#include "onnxruntime.hpp"

namespace kimgnn {

inline constexpr const char* kTableDomain = "kimgnn";

// They live as long as the process.
std::span<const OrtCustomOp* const> table_operators();

}  // namespace kimgnn
