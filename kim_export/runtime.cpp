#include "runtime.hpp"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "backend.hpp"

namespace kimgnn {
namespace {

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

// The leading positive integer of `text` ("4" of "4,2"), or 0.
int leading_count(std::string_view text) {
  int count = 0;
  std::from_chars(text.data(), text.data() + text.size(), count);
  return std::max(count, 0);
}

// The positive integer that all of `text` is, or 0.
int whole_count(std::string_view text) {
  const bool digits = std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
  return digits ? leading_count(text) : 0;
}

int available_cores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) return std::max(CPU_COUNT(&cores), 1);
  return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
}

int ranks_on_this_machine() {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE"}) {
    if (const int ranks = leading_count(environment(name)); ranks > 0) return ranks;
  }
  return 1;
}

int default_num_threads() {
  if (const int threads = leading_count(environment("OMP_NUM_THREADS")); threads > 0) return threads;
  // A rank bound to cores of its own sees only those, so they are not to be shared out a second time.
  const int machine = std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
  return std::min(available_cores(), std::max(machine / ranks_on_this_machine(), 1));
}

}  // namespace

Runtime read_runtime() {
  Runtime runtime{"cpu", 0, {}};
  if (const auto device = environment("KIMGNN_DEVICE"); !device.empty()) runtime.device = device;
  const auto threads = environment("KIMGNN_NUM_THREADS");
  runtime.num_threads = threads.empty() ? default_num_threads() : leading_count(threads);
  if (runtime.num_threads < 1) {
    throw Error("KIMGNN_NUM_THREADS='" + std::string(threads) + "' is not a number of threads. Set it to 1 or more, or "
                "unset it to share the cores among the MPI ranks.");
  }
  const auto edges = environment("KIMGNN_MAX_EDGES");
  if (!edges.empty()) runtime.max_edges = static_cast<std::size_t>(whole_count(edges));
  if (runtime.max_edges == std::size_t{0}) {
    throw Error("KIMGNN_MAX_EDGES='" + std::string(edges) + "' is not a number of edges. Set it to 1 or more, in "
                "digits, or unset it.");
  }
  return runtime;
}

}  // namespace kimgnn
