// Built without sanitizers: what the harness writes about threads is not a kernel's memory.
#include "tests/cuda_host/grid.h"

#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "tests/cuda_host/fiber.h"

// The grid that runs on this OS thread (device.h).
extern __thread uint3 blockDim;
extern __thread uint3 gridDim;
__thread uint3 blockDim;
__thread uint3 gridDim;

namespace phi::cuda_host {
namespace {

// The scheduler of one grid.
class GridScheduler {
 public:
  explicit GridScheduler(GridRun& run);
  ~GridScheduler();
  void Run();

 private:
  void PrepareBlock(uint3 index);
  void RunBlock();
  void RunWarp(unsigned warp);
  bool RunReadyLanes(unsigned warp);
  bool ReleaseWarpOperations(unsigned warp);
  bool ReleaseBarrier();
  void CheckMask(ThreadContext& lane) const;
  [[noreturn]] void ReportStuckWarp(unsigned warp) const;
  unsigned LanesOf(unsigned warp) const;
  ThreadContext& Lane(unsigned warp, unsigned lane) const { return threads_[warp * kWarp + lane]; }

  GridRun& run_;
  unsigned num_threads_;
  unsigned num_warps_;
  std::unique_ptr<ThreadContext[]> threads_;
  BlockContext block_;
  std::mt19937 random_;
  unsigned num_blocks_run_ = 0;
  std::vector<void*> allocations_;  // freed with the grid: a reused address would hide a race
};

// Nearly always the same literal.
bool SameLine(const SourceLine& a, const SourceLine& b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

// A pool of its own for each OS thread, as fibers cost more than a block takes to run.
std::vector<std::unique_ptr<Fiber>>& Fibers() {
  thread_local std::vector<std::unique_ptr<Fiber>> fibers;
  return fibers;
}

void ThreadMain(void* argument) {
  auto* const thread = static_cast<ThreadContext*>(argument);
  const GridRun& run = *thread->block->grid;
  char* const block_tag = thread->block->tsan_tags + kWarp;
  TsanAcquire(block_tag);
  run.call(run.kernel, run.arguments);
  thread->state = ThreadState::kReturned;
  if (thread->num_pending > 0) {
    Die("a cp.async of %p was never waited for", thread->pending[0].to);
  }
  TsanRelease(thread->block->grid->arguments);
}

GridScheduler::GridScheduler(GridRun& run)
    : run_(run),
      num_threads_(run.block.x * run.block.y * run.block.z),
      num_warps_((num_threads_ + kWarp - 1) / kWarp),
      threads_(new ThreadContext[num_threads_]),
      random_(static_cast<uint32_t>(run.seed)) {
  while (Fibers().size() < num_threads_) Fibers().push_back(std::make_unique<Fiber>());
}

GridScheduler::~GridScheduler() {
  for (void* const allocation : allocations_) std::free(allocation);
}

void GridScheduler::Run() {
  const uint64_t count = uint64_t{run_.grid.x} * run_.grid.y * run_.grid.z;
  std::vector<uint64_t> order(count);
  for (uint64_t i = 0; i < count; ++i) order[i] = i;
  for (uint64_t i = count; i > 1; --i) std::swap(order[i - 1], order[random_() % i]);
  for (const uint64_t block : order) {
    PrepareBlock({static_cast<unsigned>(block % run_.grid.x),
                  static_cast<unsigned>(block / run_.grid.x % run_.grid.y),
                  static_cast<unsigned>(block / run_.grid.x / run_.grid.y)});
    RunBlock();
  }
  // Threads released the arguments as they returned; only now is the grid's work ordered before
  // the stream's next operation, and never one block before another.
  TsanAcquire(run_.arguments);
}

void GridScheduler::PrepareBlock(uint3 index) {
  void* shared = nullptr;
  if (run_.shared_bytes > 0) {
    if (posix_memalign(&shared, 128, run_.shared_bytes) != 0) Die("no memory");
    std::memset(shared, 0xff, run_.shared_bytes);  // NaN in every type that we have
    allocations_.push_back(shared);
  }
  void* const tags = std::malloc(kWarp + 1);
  allocations_.push_back(tags);
  block_ = {.index = index,
            .shared = static_cast<std::byte*>(shared),
            .grid = &run_,
            .tsan_tags = static_cast<char*>(tags),
            .threads = threads_.get(),
            .num_threads = num_threads_};
  TsanRelease(block_.tsan_tags + kWarp);
  // Thread t on another fiber in each block: to ThreadSanitizer a fiber is one thread, whose own
  // accesses never race.
  const unsigned shift = num_threads_ > 1 ? (num_blocks_run_++ * 37) % num_threads_ : 0;
  for (unsigned i = 0; i < num_threads_; ++i) {
    ThreadContext& thread = threads_[i];
    thread.index = {
        i % run_.block.x, i / run_.block.x % run_.block.y, i / run_.block.x / run_.block.y};
    thread.block = &block_;
    thread.fiber = Fibers()[(i + shift) % num_threads_].get();
    thread.state = ThreadState::kReady;
    thread.seen_at = {};
    thread.linear = i;
    thread.num_pending = 0;
    thread.num_commits = 0;
    thread.fiber->Start(&ThreadMain, &thread);
  }
}

void GridScheduler::RunBlock() {
  std::vector<unsigned> warps(num_warps_);
  for (unsigned i = 0; i < num_warps_; ++i) warps[i] = i;
  do {
    for (unsigned i = num_warps_; i > 1; --i) std::swap(warps[i - 1], warps[random_() % i]);
    for (const unsigned warp : warps) RunWarp(warp);
  } while (ReleaseBarrier());
}

unsigned GridScheduler::LanesOf(unsigned warp) const {
  return std::min(kWarp, num_threads_ - warp * kWarp);
}

// Until every lane is at the block's barrier or has returned.
void GridScheduler::RunWarp(unsigned warp) {
  while (RunReadyLanes(warp)) {
    if (!ReleaseWarpOperations(warp)) ReportStuckWarp(warp);
  }
}

// Each ready lane up to its next wait; whether one is at a warp operation then.
bool GridScheduler::RunReadyLanes(unsigned warp) {
  const unsigned lanes = LanesOf(warp);
  const unsigned first = static_cast<unsigned>(random_());
  const unsigned step = (random_() & 1) != 0 ? 1 : kWarp - 1;
  bool at_operation = false;
  for (unsigned i = 0; i < kWarp; ++i) {
    const unsigned lane = (first + i * step) % kWarp;
    if (lane >= lanes) continue;
    ThreadContext& thread = Lane(warp, lane);
    if (thread.state == ThreadState::kReady) {
      current_thread = &thread;
      thread.fiber->Resume();
    }
    at_operation |= thread.state == ThreadState::kAtWarpOp;
  }
  return at_operation;
}

// Runs the operations whose lanes are all there; false when there was none.
bool GridScheduler::ReleaseWarpOperations(unsigned warp) {
  bool released = false;
  for (unsigned i = 0; i < LanesOf(warp); ++i) {
    ThreadContext& first = Lane(warp, i);
    if (first.state != ThreadState::kAtWarpOp) continue;
    CheckMask(first);
    void* operands[kWarp] = {};
    bool complete = true;
    for (unsigned lane = 0; lane < kWarp; ++lane) {
      if ((first.mask >> lane & 1) == 0) continue;
      const ThreadContext& other = Lane(warp, lane);
      complete &= other.state == ThreadState::kAtWarpOp && other.mask == first.mask &&
                  other.function == first.function && SameLine(other.seen_at, first.seen_at);
      operands[lane] = other.operand;
    }
    if (!complete) continue;
    const unsigned mask = first.mask;
    if (first.function != nullptr) first.function(operands, mask);
    for (unsigned lane = 0; lane < kWarp; ++lane) {
      if ((mask >> lane & 1) != 0) Lane(warp, lane).state = ThreadState::kReady;
    }
    released = true;
  }
  return released;
}

// Lanes that never come: not in the block, or returned. And the mask has to have the caller.
void GridScheduler::CheckMask(ThreadContext& lane) const {
  current_thread = &lane;  // whom Die() names
  const unsigned warp = lane.linear / kWarp;
  const unsigned self = lane.linear % kWarp;
  if ((lane.mask >> self & 1) == 0) {
    const auto holder = static_cast<unsigned>(std::countr_zero(lane.mask)) % kWarp;
    const bool exists = lane.mask != 0 && holder < LanesOf(warp);
    Die("wrong mask: lane %u calls a warp operation at %s with mask %08x, which lacks it; lane %u "
        "was last seen at %s",
        self,
        PlaceText(lane.seen_at).text,
        lane.mask,
        holder,
        PlaceText(exists ? Lane(warp, holder).seen_at : SourceLine{}).text);
  }
  for (unsigned other = 0; other < kWarp; ++other) {
    if ((lane.mask >> other & 1) == 0) continue;
    if (other >= LanesOf(warp)) {
      Die("thread %u waits at %s with mask %08x, but the block has no lane %u in this warp",
          lane.linear,
          PlaceText(lane.seen_at).text,
          lane.mask,
          other);
    }
    if (Lane(warp, other).state == ThreadState::kReturned) {
      Die("thread %u waits at %s with mask %08x, but lane %u has returned (exited lane), last seen "
          "at %s",
          lane.linear,
          PlaceText(lane.seen_at).text,
          lane.mask,
          other,
          PlaceText(Lane(warp, other).seen_at).text);
    }
  }
}

void GridScheduler::ReportStuckWarp(unsigned warp) const {
  for (unsigned i = 0; i < LanesOf(warp); ++i) {
    const ThreadContext& lane = Lane(warp, i);
    if (lane.state != ThreadState::kAtWarpOp) continue;
    for (unsigned j = 0; j < LanesOf(warp); ++j) {
      const ThreadContext& other = Lane(warp, j);
      if ((lane.mask >> j & 1) == 0) continue;
      const bool same = other.state == ThreadState::kAtWarpOp && other.mask == lane.mask &&
                        other.seen_at.line == lane.seen_at.line && other.function == lane.function;
      if (same) continue;
      current_thread = &Lane(warp, i);
      Die("divergent warp or wrong mask: thread %u waits at %s with mask %08x, thread %u of that "
          "mask at %s (%s, mask %08x)",
          lane.linear,
          PlaceText(lane.seen_at).text,
          lane.mask,
          other.linear,
          PlaceText(other.seen_at).text,
          other.state == ThreadState::kAtBarrier ? "__syncthreads" : "warp operation",
          other.mask);
    }
  }
  Die("a warp waits for nobody");
}

// Every warp has run as far as it can. True when the threads go on from a barrier.
bool GridScheduler::ReleaseBarrier() {
  ThreadContext* waiting = nullptr;
  for (unsigned i = 0; i < num_threads_ && waiting == nullptr; ++i) {
    if (threads_[i].state == ThreadState::kAtBarrier) waiting = &threads_[i];
  }
  if (waiting == nullptr) return false;
  current_thread = waiting;  // whom Die() names
  for (unsigned i = 0; i < num_threads_; ++i) {
    const ThreadContext& other = threads_[i];
    const bool returned = other.state == ThreadState::kReturned;
    if (!returned && SameLine(other.seen_at, waiting->seen_at)) continue;
    Die("divergent barrier: thread %u waits at __syncthreads %s, thread %u %s %s",
        waiting->linear,
        PlaceText(waiting->seen_at).text,
        other.linear,
        returned ? "has returned, last seen at" : "at",
        PlaceText(other.seen_at).text);
  }
  for (unsigned i = 0; i < num_threads_; ++i) threads_[i].state = ThreadState::kReady;
  return true;
}

}  // namespace

PlaceText::PlaceText(const SourceLine& place) : text("nowhere yet") {
  if (place.file != nullptr) std::snprintf(text, sizeof(text), "%s:%d", place.file, place.line);
}

void RunGrid(GridRun& run) {
  blockDim = {run.block.x, run.block.y, run.block.z};
  gridDim = {run.grid.x, run.grid.y, run.grid.z};
  GridScheduler(run).Run();
  current_thread = nullptr;
}

}  // namespace phi::cuda_host
