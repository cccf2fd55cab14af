#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>

// Runs a kernel's grid on the calling OS thread: blocks one after the other in an order drawn from
// the seed, the CUDA threads of a block as fibers. A warp runs until its lanes wait at the block's
// barrier or have returned, so that warps are as far apart as barriers let them be.
//
// A kernel that breaks a rule of CUDA's aborts the process with the rule and the source lines of
// both threads that disagree: every lane of a mask, and no other, must come to the same warp
// operation with the same mask; every thread of a block must come to the same __syncthreads. Of a
// thread that has returned or is elsewhere, the line is the last one at which it was seen.
namespace phi::cuda_host {

inline constexpr unsigned kWarp = 32;

// A 16-byte cp.async on its way.
struct PendingCopy {
  void* to;
  const void* from;  // null: zeros
  uint32_t group;    // the number of commits before it
};

enum class ThreadState : uint8_t { kReady, kAtBarrier, kAtWarpOp, kReturned };

struct SourceLine {
  const char* file = nullptr;
  int line = 0;
};
// "FILE:LINE", or that there is none yet, for a message.
struct PlaceText {
  explicit PlaceText(const SourceLine& place);
  char text[256];
};

// Computes a warp operation for the lanes of `mask`, each with its own operand, once all are there.
using WarpFunction = void (*)(void* const operands[kWarp], unsigned mask);

class Fiber;
struct GridRun;
struct ThreadContext;

struct BlockContext {
  uint3 index;
  std::byte* shared = nullptr;
  GridRun* grid = nullptr;
  char* tsan_tags = nullptr;  // [kWarp + 1]: one for each warp, then the block's
  const ThreadContext* threads = nullptr;
  unsigned num_threads = 0;
};

// One CUDA thread.
struct ThreadContext {
  uint3 index;  // threadIdx
  BlockContext* block = nullptr;
  Fiber* fiber = nullptr;
  ThreadState state = ThreadState::kReturned;
  SourceLine seen_at;  // the last line known of: where it waits, or asked for its threadIdx
  unsigned linear = 0;
  unsigned mask = 0;
  WarpFunction function = nullptr;
  void* operand = nullptr;
  static constexpr int kMaxPending = 512;
  PendingCopy pending[kMaxPending];
  int num_pending = 0;
  uint32_t num_commits = 0;
};

// The CUDA thread that runs on this OS thread, or null.
extern __thread ThreadContext* current_thread;

// What may be read and written by 16-byte operations of a kernel: true, or false with a reason.
using AccessCheck = bool (*)(const void* memory, const void* pointer, size_t bytes);

struct GridRun {
  const char* name = "";
  dim3 grid = {};
  dim3 block = {};
  size_t shared_bytes = 0;
  void (*call)(const void* kernel, void** arguments) = nullptr;
  const void* kernel = nullptr;
  void** arguments = nullptr;
  uint64_t seed = 0;
  const void* memory = nullptr;  // the device's, for `is_device_memory`
  AccessCheck is_device_memory = nullptr;
  uint64_t bytes_read = 0;  // out: by 16-byte loads and cp.async
};

void RunGrid(GridRun& run);

// --- From within a kernel. ---

// threadIdx.
const uint3& ThreadIndex(SourceLine where);

void BlockBarrier(SourceLine where);
// All lanes of `mask`, which must hold the caller's; `function` runs once for all of them.
// `orders_memory`: __syncwarp does, other warp operations do not.
void WarpOperation(
    unsigned mask, WarpFunction function, void* operand, SourceLine where, bool orders_memory);

void StartCopy(void* to, const void* from, SourceLine where);
void CommitCopies();
// Hands out the copies that may be pending no longer, one a call; false when there is none left.
bool NextCopyToLand(int max_pending_groups, PendingCopy* copy);

// A 16-byte access to global memory: aborts unless aligned and within one device allocation.
void CheckGlobal16(const void* pointer, SourceLine where, bool count);
void CheckShared(const void* pointer, size_t bytes, SourceLine where);

// Prints kernel, block and thread where there are any, then the message; aborts.
[[noreturn]] [[gnu::format(printf, 1, 2)]] void Die(const char* format, ...);

}  // namespace phi::cuda_host
