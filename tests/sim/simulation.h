#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/worker/scheduler_driver.h"

namespace phi::service {

// What a run has seen: a simulation that never meets a case proves nothing about it.
struct SimulationCounts {
  uint64_t finished = 0;
  uint64_t cancelled_queued = 0;
  uint64_t cancelled_prefill = 0;
  uint64_t cancelled_decode = 0;
  uint64_t expired_queued = 0;  // before the first token
  uint64_t expired_decode = 0;
  uint64_t samples_ended = 0;
  uint64_t failed = 0;  // with the replica, or sent away by a drain
  uint64_t preemptions = 0;
  uint64_t prefix_hit_tokens = 0;
  uint64_t block_copies = 0;

  void Add(const SimulationCounts& other);
  uint64_t cancelled() const { return cancelled_queued + cancelled_prefill + cancelled_decode; }
};

// One seed's life of a scheduler: arrivals of many callers, prompts with common beginnings,
// samples, cancellations at any stage, stops, deadlines, few KV blocks, drains and lost replicas.
// The simple model is: each sample's tokens are those of its request alone (I1), cut where it was
// ended, and each request ends once (I3); the driver checks the scheduler's own invariants after
// every call.
class Simulation {
 public:
  // `one_in`: of how many steps one has a cancellation.
  Simulation(uint64_t seed, uint32_t cancel_one_in);

  void Run(int num_steps);
  const SimulationCounts& counts() const { return counts_; }

 private:
  struct Expected {
    EngineRequest request;
    std::vector<bool> stopped;  // by EndSample
  };

  bool Chance(uint32_t one_in) { return random_() % one_in == 0; }
  uint32_t Between(uint32_t low, uint32_t high) {
    return low + static_cast<uint32_t>(random_() % (high - low + 1));
  }
  SchedulerLimits RandomLimits();
  ChunkLimits RandomChunks();
  EngineRequest RandomRequest();
  uint64_t RandomAlive();
  void Arrive();
  void CancelOne();
  void StopOne();
  void Step();
  void LoseReplica();
  void CheckPlan();
  void Take(const std::vector<RequestEvent>& events);
  void TakeEnds();
  void CheckEnd(const Expected& expected, const RequestEnd& end);
  void CountEnd(const RequestEnd& end);

  std::mt19937_64 random_;
  const uint32_t cancel_one_in_;
  ChunkLimits chunks_;
  SchedulerDriver driver_;
  std::vector<std::vector<uint32_t>> beginnings_;
  std::map<uint64_t, Expected> alive_;
  uint64_t last_id_ = 0;
  size_t ends_seen_ = 0;
  SimulationCounts counts_;
};

}  // namespace phi::service
