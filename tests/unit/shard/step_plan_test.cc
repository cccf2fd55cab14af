#include "shard/step_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

namespace phi::shard {
namespace {

using ::testing::HasSubstr;

constexpr PlanLimits kLimits{.vocab_size = 100,
                             .max_positions = 64,
                             .num_blocks = 8,
                             .max_sequences = 2,
                             .max_step_tokens = 20};

std::vector<uint32_t> History(uint32_t size) {
  std::vector<uint32_t> history(size);
  std::iota(history.begin(), history.end(), 0);
  return history;
}

// Two sequences: a prefill of 17 tokens that draws with everything there is, and one decode row
// that does not; a block copied for each.
StepPlan MakePlan() {
  StepPlan plan{.epoch = 7, .step = 1234567890123};
  for (uint32_t i = 0; i < 18; ++i) plan.token_ids.push_back(i * 5);
  plan.sequences.push_back({.num_tokens = 17,
                            .first_position = 0,
                            .block_ids = {3, 5},
                            .num_draws = 2,
                            .sampling = {.temperature = 0.7F,
                                         .top_k = 40,
                                         .top_p = 0.9F,
                                         .min_p = 0.05F,
                                         .seed = 0xfedcba9876543210,
                                         .sample_index = 3,
                                         .num_top_logprobs = 5,
                                         .want_logprobs = true,
                                         .mask_eos = true,
                                         .repetition_penalty = 1.3F,
                                         .frequency_penalty = -0.5F,
                                         .presence_penalty = 2.0F,
                                         .logit_bias = {{99, -100.0F}, {0, 1.5F}}},
                            .history = History(17),
                            .num_prompt_tokens = 12});
  plan.sequences.push_back({.num_tokens = 1, .first_position = 15, .block_ids = {7}});
  plan.block_copies = {{1, 5}, {1, 7}};
  return plan;
}

std::vector<std::byte> Replace(std::vector<std::byte> bytes, size_t offset, uint32_t value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
  return bytes;
}

TEST(StepPlanCodec, RoundTrip) {
  const StepPlan plan = MakePlan();
  absl::StatusOr<StepPlan> decoded = DecodeStepPlan(EncodeStepPlan(plan));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, plan);
}

TEST(StepPlanCodec, RoundTripOfAnIdlePlan) {
  const StepPlan plan{.epoch = 1, .step = 2};
  absl::StatusOr<StepPlan> decoded = DecodeStepPlan(EncodeStepPlan(plan));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, plan);
}

TEST(StepPlanCodec, RefusesEveryTruncation) {
  const std::vector<std::byte> bytes = EncodeStepPlan(MakePlan());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(DecodeStepPlan(std::span(bytes).first(size)).ok()) << size;
  }
}

TEST(StepPlanCodec, RefusesBytesAfterTheEnd) {
  std::vector<std::byte> bytes = EncodeStepPlan(MakePlan());
  bytes.push_back({});
  EXPECT_THAT(std::string(DecodeStepPlan(bytes).status().message()), HasSubstr("after its end"));
}

TEST(StepPlanCodec, RefusesAnotherVersion) {
  EXPECT_THAT(
      std::string(DecodeStepPlan(Replace(EncodeStepPlan(MakePlan()), 4, 1)).status().message()),
      HasSubstr("version"));
}

// Counts that promise gigabytes are refused by comparing them with the bytes that are there.
TEST(StepPlanCodec, BelievesNoCount) {
  const std::vector<std::byte> bytes = EncodeStepPlan(MakePlan());
  const size_t sequence = 36 + 18 * 4 + 2 * 8;
  for (const size_t offset :
       {size_t{24}, size_t{28}, size_t{32}, sequence + 16, sequence + 20, sequence + 24}) {
    for (const uint32_t count : {0xffffffffU, 0x40000000U, 1000U}) {
      EXPECT_EQ(DecodeStepPlan(Replace(bytes, offset, count)).status().code(),
                absl::StatusCode::kInvalidArgument)
          << offset << " " << count;
    }
  }
}

TEST(StepPlanCodec, DamagedBytesNeverCrash) {
  const std::vector<std::byte> bytes = EncodeStepPlan(MakePlan());
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::byte> damaged = bytes;
    for (int change = 0; change < 3; ++change) {
      damaged[random() % damaged.size()] = static_cast<std::byte>(random() & 255);
    }
    absl::StatusOr<StepPlan> plan = DecodeStepPlan(damaged);
    if (plan.ok()) {
      (void)ValidateStepPlan(*plan, kLimits);
    }
  }
}

// The plan that has as much of everything as it may.
TEST(ValidateStepPlan, TheLargestPlanIsAsLargeAsPlanned) {
  PlanLimits limits{.vocab_size = 400,
                    .max_positions = 64,
                    .num_blocks = 8,
                    .max_sequences = 4,
                    .max_step_tokens = 4};
  PlannedSequence sequence{.num_tokens = 1,
                           .first_position = 63,
                           .block_ids = {0, 1, 2, 3},
                           .num_draws = kMaxDraws,
                           .sampling = {.presence_penalty = 1.0F},
                           .history = History(64)};
  for (uint32_t id = 0; id < kLogitBiasMax; ++id)
    sequence.sampling.logit_bias.push_back({id, 1.0F});
  StepPlan plan{.token_ids = {1, 2, 3, 4}, .sequences = std::vector(4, sequence)};
  for (uint32_t block = 4; block < 8; ++block) plan.block_copies.push_back({0, block});
  EXPECT_TRUE(ValidateStepPlan(plan, limits).ok()) << ValidateStepPlan(plan, limits);
  EXPECT_EQ(EncodeStepPlan(plan).size(), MaxStepPlanBytes(limits));
}

TEST(ValidateStepPlan, AcceptsAGoodPlan) {
  EXPECT_TRUE(ValidateStepPlan(MakePlan(), kLimits).ok()) << ValidateStepPlan(MakePlan(), kLimits);
  EXPECT_TRUE(ValidateStepPlan(StepPlan{}, kLimits).ok());
}

struct BadPlan {
  const char* name;
  void (*damage)(StepPlan&);
  const char* message;
};

class ValidateBadPlan : public testing::TestWithParam<BadPlan> {};

TEST_P(ValidateBadPlan, IsRefused) {
  StepPlan plan = MakePlan();
  GetParam().damage(plan);
  const absl::Status status = ValidateStepPlan(plan, kLimits);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

INSTANTIATE_TEST_SUITE_P(
    All,
    ValidateBadPlan,
    testing::Values(
        BadPlan{"token", [](StepPlan& p) { p.token_ids[3] = 100; }, "token id 100 of 100"},
        BadPlan{
            "sequences", [](StepPlan& p) { p.sequences.push_back(p.sequences[1]); }, "3 sequences"},
        BadPlan{"step_tokens", [](StepPlan& p) { p.token_ids.resize(21); }, "21 tokens"},
        BadPlan{"uncovered", [](StepPlan& p) { p.token_ids.push_back(0); }, "18 tokens over 19"},
        BadPlan{"no_rows", [](StepPlan& p) { p.sequences[1].num_tokens = 0; }, "0 tokens"},
        BadPlan{"position", [](StepPlan& p) { p.sequences[1].first_position = 64; }, "within 64"},
        BadPlan{"overflow",
                [](StepPlan& p) { p.sequences[1].first_position = 0xffffffff; },
                "within 64"},
        BadPlan{"missing_block",
                [](StepPlan& p) { p.sequences[0].block_ids.pop_back(); },
                "1 KV blocks"},
        BadPlan{"extra_block",
                [](StepPlan& p) { p.sequences[1].block_ids.push_back(1); },
                "2 KV blocks"},
        BadPlan{
            "block_id", [](StepPlan& p) { p.sequences[1].block_ids[0] = 8; }, "KV block 8 of 8"},
        BadPlan{"nan_temperature",
                [](StepPlan& p) { p.sequences[0].sampling.temperature = kNan; },
                "temperature"},
        BadPlan{"infinite",
                [](StepPlan& p) { p.sequences[0].sampling.temperature = kInf; },
                "temperature"},
        BadPlan{"negative",
                [](StepPlan& p) { p.sequences[0].sampling.temperature = -1; },
                "temperature"},
        BadPlan{"top_p_zero", [](StepPlan& p) { p.sequences[0].sampling.top_p = 0; }, "top_p"},
        BadPlan{"top_p_nan", [](StepPlan& p) { p.sequences[0].sampling.top_p = kNan; }, "top_p"},
        BadPlan{"min_p", [](StepPlan& p) { p.sequences[0].sampling.min_p = 1.5F; }, "min_p"},
        BadPlan{"top_k", [](StepPlan& p) { p.sequences[0].sampling.top_k = 101; }, "top_k"},
        BadPlan{"top",
                [](StepPlan& p) { p.sequences[0].sampling.num_top_logprobs = 21; },
                "num_top_logprobs"},
        BadPlan{"draws", [](StepPlan& p) { p.sequences[0].num_draws = 14; }, "14 draws from"},
        BadPlan{"sample_overflow",
                [](StepPlan& p) { p.sequences[0].sampling.sample_index = 0xffffffff; },
                "2 draws from"},
        BadPlan{"repetition_zero",
                [](StepPlan& p) { p.sequences[0].sampling.repetition_penalty = 0; },
                "repetition 0"},
        BadPlan{"repetition_nan",
                [](StepPlan& p) { p.sequences[0].sampling.repetition_penalty = kNan; },
                "repetition nan"},
        BadPlan{"frequency",
                [](StepPlan& p) { p.sequences[0].sampling.frequency_penalty = -2.5F; },
                "frequency -2.5"},
        BadPlan{"presence",
                [](StepPlan& p) { p.sequences[0].sampling.presence_penalty = kNan; },
                "presence nan"},
        BadPlan{"bias_token",
                [](StepPlan& p) { p.sequences[0].sampling.logit_bias[1].token_id = 100; },
                "token 100 of 100"},
        BadPlan{"bias_nan",
                [](StepPlan& p) { p.sequences[0].sampling.logit_bias[1].bias = kNan; },
                "bias nan"},
        BadPlan{"bias_large",
                [](StepPlan& p) { p.sequences[0].sampling.logit_bias[1].bias = 101; },
                "bias 101"},
        BadPlan{"bias_twice",
                [](StepPlan& p) { p.sequences[0].sampling.logit_bias[1].token_id = 99; },
                "two biases"},
        BadPlan{"biases",
                [](StepPlan& p) { p.sequences[0].sampling.logit_bias.resize(301); },
                "301 biased tokens"},
        BadPlan{"history_short",
                [](StepPlan& p) { p.sequences[0].history.pop_back(); },
                "history of 16 tokens"},
        BadPlan{"history_token",
                [](StepPlan& p) { p.sequences[0].history[2] = 100; },
                "token id 100 of 100"},
        BadPlan{"history_unasked",
                [](StepPlan& p) { p.sequences[1].history = {1}; },
                "where there are 0"},
        BadPlan{"prompt_beyond_history",
                [](StepPlan& p) { p.sequences[0].num_prompt_tokens = 18; },
                "18 of the prompt"},
        BadPlan{"copy_from", [](StepPlan& p) { p.block_copies[0].from = 8; }, "KV block 8 of 8"},
        BadPlan{"copy_to", [](StepPlan& p) { p.block_copies[0].to = 8; }, "KV block 8 of 8"},
        BadPlan{"copy_twice", [](StepPlan& p) { p.block_copies[0].to = 7; }, "two copies"},
        BadPlan{"copy_chain", [](StepPlan& p) { p.block_copies[0].to = 1; }, "copied to"},
        BadPlan{"copies",
                [](StepPlan& p) {
                  p.block_copies.push_back({2, 3});
                },
                "3 block copies"},
        BadPlan{"copies_of_an_idle_plan",
                [](StepPlan& p) {
                  p = {.block_copies = {{1, 2}}};
                },
                "1 block copies beside 0"}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace phi::shard
