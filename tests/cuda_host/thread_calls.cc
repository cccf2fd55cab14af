// What a CUDA thread asks of the harness. Built without sanitizers.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "tests/cuda_host/fiber.h"
#include "tests/cuda_host/grid.h"

namespace phi::cuda_host {

__thread ThreadContext* current_thread = nullptr;

const uint3& ThreadIndex(SourceLine where) {
  current_thread->seen_at = where;
  return current_thread->index;
}

void BlockBarrier(SourceLine where) {
  ThreadContext& self = *current_thread;
  char* const tag = self.block->tsan_tags + kWarp;
  self.seen_at = where;
  self.state = ThreadState::kAtBarrier;
  TsanRelease(tag);
  self.fiber->Yield();
  TsanAcquire(tag);
}

void WarpOperation(
    unsigned mask, WarpFunction function, void* operand, SourceLine where, bool orders_memory) {
  ThreadContext& self = *current_thread;
  char* const tag = self.block->tsan_tags + self.linear / kWarp;
  self.seen_at = where;
  self.mask = mask;
  self.function = function;
  self.operand = operand;
  self.state = ThreadState::kAtWarpOp;
  if (orders_memory) TsanRelease(tag);
  self.fiber->Yield();
  if (orders_memory) TsanAcquire(tag);
}

void StartCopy(void* to, const void* from, SourceLine where) {
  ThreadContext& self = *current_thread;
  if (from != nullptr) CheckGlobal16(from, where, /*count=*/true);
  CheckShared(to, 16, where);
  if (self.num_pending == ThreadContext::kMaxPending) {
    Die("%s:%d: more than %d cp.async of one thread pending",
        where.file,
        where.line,
        ThreadContext::kMaxPending);
  }
  self.pending[self.num_pending++] = {.to = to, .from = from, .group = self.num_commits};
}

void CommitCopies() { ++current_thread->num_commits; }

bool NextCopyToLand(int max_pending_groups, PendingCopy* copy) {
  ThreadContext& self = *current_thread;
  if (self.num_pending == 0) return false;
  // The oldest first; a copy that was never committed stays pending.
  if (self.pending[0].group + static_cast<uint32_t>(max_pending_groups) >= self.num_commits) {
    return false;
  }
  *copy = self.pending[0];
  --self.num_pending;
  for (int i = 0; i < self.num_pending; ++i) self.pending[i] = self.pending[i + 1];
  return true;
}

void CheckGlobal16(const void* pointer, SourceLine where, bool count) {
  GridRun& run = *current_thread->block->grid;
  if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0) {
    Die("%s:%d: misaligned 16-byte access to %p", where.file, where.line, pointer);
  }
  if (!run.is_device_memory(run.memory, pointer, 16)) {
    Die("%s:%d: 16-byte access to %p, which is not in one allocation of the device",
        where.file,
        where.line,
        pointer);
  }
  if (count) run.bytes_read += 16;
}

void CheckShared(const void* pointer, size_t bytes, SourceLine where) {
  const auto* const at = static_cast<const std::byte*>(pointer);
  const BlockContext& block = *current_thread->block;
  if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0) {
    Die("%s:%d: misaligned 16-byte access to shared memory, %p", where.file, where.line, pointer);
  }
  if (at < block.shared || at + bytes > block.shared + block.grid->shared_bytes) {
    Die("%s:%d: %p is not in the block's %zu bytes of shared memory",
        where.file,
        where.line,
        pointer,
        block.grid->shared_bytes);
  }
}

void Die(const char* format, ...) {
  std::fprintf(stderr, "cuda_host: ");
  if (current_thread != nullptr) {
    const ThreadContext& self = *current_thread;
    const uint3& block = self.block->index;
    std::fprintf(stderr,
                 "kernel %s, block (%u,%u,%u), thread (%u,%u,%u): ",
                 self.block->grid->name,
                 block.x,
                 block.y,
                 block.z,
                 self.index.x,
                 self.index.y,
                 self.index.z);
  }
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
  std::abort();
}

}  // namespace phi::cuda_host
