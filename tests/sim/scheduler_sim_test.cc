// Rows 28, 30, 65 and 66 of docs/reliability.md in the scheduler, among everything else that may
// happen at the same time.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "tests/sim/simulation.h"

namespace phi::service {
namespace {

// Another range of seeds: PHI_SIM_SEED=12345 (the first one) build/dev/bin/scheduler_sim_test.
uint64_t FirstSeed() {
  const char* seed = std::getenv("PHI_SIM_SEED");
  return seed == nullptr ? 1 : std::strtoull(seed, nullptr, 10);
}

SimulationCounts RunSeeds(int num_seeds, int num_steps, uint32_t cancel_one_in) {
  SimulationCounts sum;
  for (int i = 0; i < num_seeds && !testing::Test::HasFailure(); ++i) {
    const uint64_t seed = FirstSeed() + static_cast<uint64_t>(i);
    SCOPED_TRACE("seed " + std::to_string(seed));
    Simulation simulation(seed, cancel_one_in);
    simulation.Run(num_steps);
    if (testing::Test::HasFailure()) {
      std::printf("failed with PHI_SIM_SEED=%llu\n", static_cast<unsigned long long>(seed));
    }
    sum.Add(simulation.counts());
  }
  return sum;
}

TEST(SchedulerSimulation, Row66_EveryRequestEndsOnceWithItsOwnTokens) {
  const SimulationCounts counts = RunSeeds(60, 800, 12);
  std::printf("%llu finished, %llu preemptions, %llu tokens found, %llu blocks copied\n",
              static_cast<unsigned long long>(counts.finished),
              static_cast<unsigned long long>(counts.preemptions),
              static_cast<unsigned long long>(counts.prefix_hit_tokens),
              static_cast<unsigned long long>(counts.block_copies));
  EXPECT_GT(counts.finished, 5'000u);
  EXPECT_GT(counts.preemptions, 300u);
  EXPECT_GT(counts.prefix_hit_tokens, 10'000u);
  EXPECT_GT(counts.block_copies, 1'000u);
  EXPECT_GT(counts.samples_ended, 500u);
  EXPECT_GT(counts.failed, 500u);
}

TEST(SchedulerSimulation, Row28_CancelStormAtEveryStageLeavesNothingBehind) {
  const SimulationCounts counts = RunSeeds(30, 2'000, 2);
  std::printf("%llu cancelled: %llu queued, %llu in prefill, %llu in decode\n",
              static_cast<unsigned long long>(counts.cancelled()),
              static_cast<unsigned long long>(counts.cancelled_queued),
              static_cast<unsigned long long>(counts.cancelled_prefill),
              static_cast<unsigned long long>(counts.cancelled_decode));
  EXPECT_GE(counts.cancelled(), 20'000u);
  EXPECT_GT(counts.cancelled_queued, 1'000u);
  EXPECT_GT(counts.cancelled_prefill, 500u);
  EXPECT_GT(counts.cancelled_decode, 1'000u);
}

TEST(SchedulerSimulation, Row30_DeadlinesEndWhatWaitsAndWhatRuns) {
  const SimulationCounts counts = RunSeeds(40, 500, 1'000);
  EXPECT_GT(counts.expired_queued, 200u);
  EXPECT_GT(counts.expired_decode, 100u);
}

}  // namespace
}  // namespace phi::service
