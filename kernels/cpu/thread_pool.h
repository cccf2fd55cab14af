#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace phi::kernels {

// The share [first, end) of `count` things that `thread` of `num_threads` owns.
struct Share {
  int64_t first = 0;
  int64_t end = 0;
};
constexpr Share ShareOf(int64_t count, int thread, int num_threads) {
  return {count * thread / num_threads, count * (thread + 1) / num_threads};
}

// A fixed team of threads for short parallel regions (a decode step has about 75). The caller of
// Run() is member 0.
//
// A member waits for the next region by spinning for kSpinTime and sleeping in the kernel after
// that: regions follow each other within microseconds in a step, yet where more threads than cores
// want to run, a spinning thread keeps from the core the very thread it waits for.
//
// Run() allocates nothing. Threads: one caller at a time.
class ThreadPool {
 public:
  // `threads` >= 1 counts the caller. Throws std::system_error where the system refuses a thread.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls region(thread) once for each thread in 0 .. num_threads() - 1, all at the same time, and
  // returns when all have returned.
  template <class Region>
  void Run(Region&& region) {
    using Callable = std::remove_reference_t<Region>;
    RunErased([](void* context, int thread) { (*static_cast<Callable*>(context))(thread); },
              const_cast<void*>(static_cast<const void*>(&region)));
  }

  // Calls task(index, thread) for each index in 0 .. count - 1; which thread takes which is left to
  // chance, so this is for tasks whose results do not depend on their thread.
  template <class Task>
  void ForEach(int64_t count, Task&& task) {
    std::atomic<int64_t> next = 0;
    Run([&](int thread) {
      for (int64_t index; (index = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
        task(index, thread);
      }
    });
  }

  // Calls task(first, end, thread) for runs of at most `longest_run` (a power of two) that cover 0
  // .. count - 1. Each thread works through its own Share, the same in every call, and then helps
  // the others with what is left of theirs: cores never get exactly equal parts of the memory's
  // bandwidth. Runs shrink towards the end of a share.
  template <class Task>
  void ForShares(int64_t count, int64_t longest_run, Task&& task) {
    for (int thread = 0; thread < num_threads(); ++thread) {
      cursors_[static_cast<size_t>(thread)].next = ShareOf(count, thread, num_threads()).first;
    }
    Run([&](int thread) {
      for (int i = 0; i < num_threads(); ++i) {
        const int owner = (thread + i) % num_threads();
        const int64_t end = ShareOf(count, owner, num_threads()).end;
        for (Share run; (run = TakeRun(owner, end, longest_run)).first < end;) {
          task(run.first, run.end, thread);
        }
      }
    });
  }

 private:
  using ErasedRegion = void (*)(void* context, int thread);
  struct alignas(64) Cursor {
    std::atomic<int64_t> next = 0;
  };

  // The next run of `owner`'s share; empty at its end.
  Share TakeRun(int owner, int64_t end, int64_t longest_run);

  void RunErased(ErasedRegion region, void* context);
  void Work(int thread);
  void Stop();

  std::vector<Cursor> cursors_;  // by thread, in its share
  std::vector<std::thread> workers_;
  ErasedRegion region_ = nullptr;  // written before generation_ is, null = stop
  void* context_ = nullptr;
  alignas(64) std::atomic<uint32_t> generation_ = 0;  // counts regions
  alignas(64) std::atomic<uint32_t> running_ = 0;     // workers still in the region
};

}  // namespace phi::kernels
