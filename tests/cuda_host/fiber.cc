// Built without sanitizers, which must not see half a change of stacks; PHI_CUDA_HOST_ASAN and
// PHI_CUDA_HOST_TSAN say what the rest of the build has.
#include "tests/cuda_host/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if defined(PHI_CUDA_HOST_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(PHI_CUDA_HOST_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

// Saves what a call must keep, swaps stacks, and returns on the other one.
extern "C" void PhiCudaHostSwitch(void** save, void* load);
asm(R"(
.text
.globl PhiCudaHostSwitch
.type PhiCudaHostSwitch, @function
PhiCudaHostSwitch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size PhiCudaHostSwitch, .-PhiCudaHostSwitch
)");

namespace phi::cuda_host {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kStackBytes = 128 * 1024;  // pages are taken when touched

[[maybe_unused]] thread_local Fiber* starting = nullptr;

}  // namespace

Fiber::Fiber() {
  void* const mapped = mmap(nullptr,
                            kPage + kStackBytes,
                            PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                            -1,
                            0);
  if (mapped == MAP_FAILED || mprotect(mapped, kPage, PROT_NONE) != 0) {
    std::perror("cuda_host: a fiber's stack");
    std::abort();
  }
  stack_ = static_cast<std::byte*>(mapped) + kPage;
  // The frame that PhiCudaHostSwitch pops: six registers, then the address it returns to, which has
  // to find the stack as after a call (16 n + 8). Loop never returns.
  auto* top = reinterpret_cast<uint64_t*>(stack_ + kStackBytes) - 1;
  *--top = reinterpret_cast<uint64_t>(+[] { Loop(starting); });
  for (int i = 0; i < 6; ++i) *--top = 0;
  stack_pointer_ = top;
#if defined(PHI_CUDA_HOST_TSAN)
  tsan_fiber_ = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#if defined(PHI_CUDA_HOST_TSAN)
  __tsan_destroy_fiber(tsan_fiber_);
#endif
  munmap(stack_ - kPage, kPage + kStackBytes);
}

void Fiber::Start(void (*body)(void*), void* argument) {
  body_ = body;
  argument_ = argument;
  done_ = false;
}

void Fiber::Resume() {
  starting = this;
#if defined(PHI_CUDA_HOST_TSAN)
  tsan_caller_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(tsan_fiber_, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(PHI_CUDA_HOST_ASAN)
  __sanitizer_start_switch_fiber(&caller_fake_stack_, stack_, kStackBytes);
#endif
  PhiCudaHostSwitch(&stack_pointer_, stack_pointer_);
#if defined(PHI_CUDA_HOST_ASAN)
  __sanitizer_finish_switch_fiber(caller_fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::SwitchOut() {
#if defined(PHI_CUDA_HOST_TSAN)
  __tsan_switch_to_fiber(tsan_caller_, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(PHI_CUDA_HOST_ASAN)
  __sanitizer_start_switch_fiber(&fake_stack_, caller_bottom_, caller_size_);
#endif
  PhiCudaHostSwitch(&stack_pointer_, stack_pointer_);
#if defined(PHI_CUDA_HOST_ASAN)
  __sanitizer_finish_switch_fiber(fake_stack_, &caller_bottom_, &caller_size_);
#endif
}

void Fiber::Yield() { SwitchOut(); }

void Fiber::Loop(Fiber* fiber) {
#if defined(PHI_CUDA_HOST_ASAN)
  __sanitizer_finish_switch_fiber(nullptr, &fiber->caller_bottom_, &fiber->caller_size_);
#endif
  for (;;) {
    fiber->body_(fiber->argument_);
    fiber->done_ = true;
    fiber->SwitchOut();
  }
}

TsanContext::TsanContext() {
#if defined(PHI_CUDA_HOST_TSAN)
  context_ = __tsan_create_fiber(0);
#endif
}

TsanContext::~TsanContext() {
#if defined(PHI_CUDA_HOST_TSAN)
  __tsan_destroy_fiber(context_);
#endif
}

void TsanContext::Enter() {
#if defined(PHI_CUDA_HOST_TSAN)
  caller_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(context_, __tsan_switch_to_fiber_no_sync);
#endif
}

void TsanContext::Leave() {
#if defined(PHI_CUDA_HOST_TSAN)
  __tsan_switch_to_fiber(caller_, __tsan_switch_to_fiber_no_sync);
#endif
}

void TsanRelease([[maybe_unused]] void* tag) {
#if defined(PHI_CUDA_HOST_TSAN)
  __tsan_release(tag);
#endif
}

void TsanAcquire([[maybe_unused]] void* tag) {
#if defined(PHI_CUDA_HOST_TSAN)
  __tsan_acquire(tag);
#endif
}

}  // namespace phi::cuda_host
