#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "shard/step_plan.h"

// A plan that decodes encodes to the same bytes, and validating it never crashes.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  const absl::StatusOr<phi::shard::StepPlan> plan = phi::shard::DecodeStepPlan(bytes);
  if (!plan.ok()) return 0;
  const std::vector<std::byte> again = phi::shard::EncodeStepPlan(*plan);
  if (!std::equal(bytes.begin(), bytes.end(), again.begin(), again.end())) std::abort();
  const phi::shard::PlanLimits limits{.vocab_size = 1000,
                                      .max_positions = 128,
                                      .num_blocks = 64,
                                      .max_sequences = 4,
                                      .max_step_tokens = 64};
  (void)phi::shard::ValidateStepPlan(*plan, limits);
  return 0;
}
