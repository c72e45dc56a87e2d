// What the backends on libtorch share: threads, devices, errors, and tensors on the caller's memory.

#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <malloc.h>

#include <algorithm>
#include <exception>
#include <string>

#include "backend.hpp"

namespace kimgnn {

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

// While it lives, memory of any size comes from the heap, where it stays for the next step when it is freed. By default,
// an array of more than 32 MiB comes from the system and goes back to it: at 4,096 atoms, clearing its pages then takes
// longer than all that is computed. What the process allocates at other times comes from where it did before: glibc, which
// raises its threshold to that as arrays are freed, ceases to once it is told anything, and is told the threshold too.
class MemoryKept {
 public:
  MemoryKept() {
#ifdef __GLIBC__
    mallopt(M_TRIM_THRESHOLD, -1);  // never
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_MMAP_MAX, 0);
#endif
  }
  ~MemoryKept() {
#ifdef __GLIBC__
    mallopt(M_MMAP_MAX, 65536);  // glibc's default
#endif
  }
  MemoryKept(const MemoryKept&) = delete;
  MemoryKept& operator=(const MemoryKept&) = delete;
};

inline constexpr const char* kDamagedOrNewer =
    "The file is damaged, or written by a newer torch than this driver's. Export the model again with `kimgnn export`, "
    "and bring the driver up to date with `kimgnn driver install --force`.";

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

// The device of that name, which a tensor has been put on.
inline at::Device working_device(const std::string& name) {
  return explained("KIMGNN_DEVICE='" + name + "' cannot be used",
                   "Unset it to run on the CPU; cuda and cuda:<number> need a CUDA build of torch and a GPU.", [&] {
                     const at::Device device(name);
                     at::empty({1}, device);
                     return device;
                   });
}

// A tensor on the caller's memory. Networks do not write into their inputs.
template <typename Number>
at::Tensor as_tensor(std::span<const Number> values, at::IntArrayRef shape) {
  return at::from_blob(const_cast<Number*>(values.data()), shape, c10::CppTypeToScalarType<Number>::value);
}

// Copies a network's result, which must be float64 and of that shape.
inline void copy_out(const at::Tensor& tensor, at::IntArrayRef shape, std::span<double> values) {
  if (tensor.scalar_type() != at::kDouble || tensor.sizes() != shape) {
    throw Error("The network returned " + c10::str(tensor.scalar_type(), tensor.sizes()) + " where " +
                c10::str(at::kDouble, shape) + " is expected. " + kExportAgain);
  }
  const auto source = tensor.to(at::kCPU).contiguous();
  std::copy_n(source.const_data_ptr<double>(), values.size(), values.begin());
}

}  // namespace kimgnn
