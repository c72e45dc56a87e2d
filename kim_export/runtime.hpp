// Where a network runs, on how many threads, and on how much at once. All of it is optional.

#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace kimgnn {

struct Runtime {
  std::string device;  // KIMGNN_DEVICE: "cpu" (default), "cuda", "cuda:1"
  int num_threads;     // KIMGNN_NUM_THREADS, else OMP_NUM_THREADS, else this rank's share of the cores
  std::optional<std::size_t> max_edges;  // KIMGNN_MAX_EDGES: edges evaluated at once, which bound the memory
};

Runtime read_runtime();

}  // namespace kimgnn
