#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"

// The backends that a program of kernel suites runs on: cpu_cases.cc or cuda_cases.cc is linked in.
namespace phi::kernels {

struct BackendCase {
  std::string name;
  DType dtype = DType::kFloat32;
  // I1 holds bit by bit.
  bool batch_invariant = true;
  // What attention rounds queries and weights to, relatively; 0: they stay float32.
  double attention_roundoff = 0;
  // What I1 is tried with: threads of the host.
  std::vector<int> thread_counts = {1, 2, 3};
  std::function<std::unique_ptr<Backend>(int threads)> make = {};
};

// Everything that this machine has, and what of it keeps I1.
std::vector<BackendCase> MachineCases();
std::vector<BackendCase> InvariantCases();
std::string CaseName(const testing::TestParamInfo<BackendCase>& info);

// Memory that the host and the backends' operations reach alike.
void* AllocateVisible(size_t bytes);
void FreeVisible(void* memory);

template <typename T>
struct VisibleAllocator {
  using value_type = T;
  VisibleAllocator() = default;
  template <typename U>
  explicit(false) VisibleAllocator(const VisibleAllocator<U>& /*other*/) {}
  T* allocate(size_t count) { return static_cast<T*>(AllocateVisible(count * sizeof(T))); }
  void deallocate(T* memory, size_t /*count*/) { FreeVisible(memory); }
  bool operator==(const VisibleAllocator& /*other*/) const { return true; }
};
template <typename T>
using VisibleVector = std::vector<T, VisibleAllocator<T>>;

}  // namespace phi::kernels
