// Where and on how many threads a network runs. All of it is optional.

#pragma once

#include <string>

namespace kimgnn {

struct Runtime {
  std::string device;  // KIMGNN_DEVICE: "cpu" (default), "cuda", "cuda:1"
  int num_threads;     // KIMGNN_NUM_THREADS, else OMP_NUM_THREADS, else this rank's share of the cores
};

Runtime read_runtime();

}  // namespace kimgnn
