#pragma once

#include <cstddef>

namespace phi::cuda_host {

// A stack to run a function on, which can stop in the middle and go on later: one CUDA thread.
// x86-64 System V only. AddressSanitizer knows of the change of stacks; to ThreadSanitizer each
// fiber is a thread of its own, which is ordered with others only where TsanRelease and TsanAcquire
// say so. Resume() of one fiber must come from one OS thread at a time.
class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // What the next Resume() starts; the last body must have returned.
  void Start(void (*body)(void*), void* argument);
  // Runs the body until it calls Yield() or returns. Not from within a fiber.
  void Resume();
  // Back to the caller of Resume(); from within the body only.
  void Yield();
  bool done() const { return done_; }

 private:
  [[noreturn]] static void Loop(Fiber* fiber);
  void SwitchOut();

  void* stack_pointer_ = nullptr;  // of the side that does not run
  std::byte* stack_ = nullptr;     // lowest address, above the guard page
  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  bool done_ = true;
  [[maybe_unused]] void* tsan_fiber_ = nullptr;
  [[maybe_unused]] void* tsan_caller_ = nullptr;
  // AddressSanitizer's: of the fiber and of Resume()'s caller.
  [[maybe_unused]] void* fake_stack_ = nullptr;
  [[maybe_unused]] void* caller_fake_stack_ = nullptr;
  [[maybe_unused]] const void* caller_bottom_ = nullptr;
  [[maybe_unused]] size_t caller_size_ = 0;
};

// A context for ThreadSanitizer alone, without a stack: what a stream's operations are ordered by.
class TsanContext {
 public:
  TsanContext();
  ~TsanContext();
  TsanContext(const TsanContext&) = delete;
  TsanContext& operator=(const TsanContext&) = delete;
  // The calls between the two are seen as another thread's; same OS thread, properly nested.
  void Enter();
  void Leave();

 private:
  void* context_ = nullptr;
  void* caller_ = nullptr;
};

// Orders what came before a release of `tag` with what comes after an acquire of it. Nothing
// without ThreadSanitizer.
void TsanRelease(void* tag);
void TsanAcquire(void* tag);

}  // namespace phi::cuda_host
