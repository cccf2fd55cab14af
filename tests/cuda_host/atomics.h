#pragma once

// CUDA's atomics and fences. They order memory here (a block's results that another block reads
// after a counter said so), which hardware promises only together with __threadfence().
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace phi::cuda_host {

template <typename T, typename Update>
T AtomicUpdate(T* at, Update update) {
  T old;
  __atomic_load(at, &old, __ATOMIC_ACQUIRE);
  for (;;) {
    T wanted = update(old);
    if (__atomic_compare_exchange(at, &old, &wanted, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      return old;
    }
  }
}

}  // namespace phi::cuda_host

template <typename T>
T atomicAdd(T* at, std::type_identity_t<T> value) {
  return phi::cuda_host::AtomicUpdate(at, [=](T old) { return static_cast<T>(old + value); });
}
template <typename T>
T atomicMax(T* at, std::type_identity_t<T> value) {
  return phi::cuda_host::AtomicUpdate(at, [=](T old) { return old < value ? value : old; });
}
template <typename T>
T atomicMin(T* at, std::type_identity_t<T> value) {
  return phi::cuda_host::AtomicUpdate(at, [=](T old) { return value < old ? value : old; });
}
template <typename T>
T atomicExch(T* at, std::type_identity_t<T> value) {
  return phi::cuda_host::AtomicUpdate(at, [=](T) { return value; });
}
template <typename T>
T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return phi::cuda_host::AtomicUpdate(at, [=](T old) { return old == expected ? value : old; });
}
inline void __threadfence() {}
