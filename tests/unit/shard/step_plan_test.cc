#include "shard/step_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

namespace phi::shard {
namespace {

using ::testing::HasSubstr;

constexpr PlanLimits kLimits{.vocab_size = 100,
                             .max_positions = 64,
                             .num_blocks = 8,
                             .max_sequences = 2,
                             .max_step_tokens = 20};

// Two sequences: a prefill of 17 tokens that draws, and one decode row that does not.
StepPlan MakePlan() {
  StepPlan plan{.epoch = 7, .step = 1234567890123};
  for (uint32_t i = 0; i < 18; ++i) plan.token_ids.push_back(i * 5);
  plan.sequences.push_back({.num_tokens = 17,
                            .first_position = 0,
                            .block_ids = {3, 5},
                            .sample = true,
                            .sampling = {.temperature = 0.7F,
                                         .top_k = 40,
                                         .top_p = 0.9F,
                                         .min_p = 0.05F,
                                         .seed = 0xfedcba9876543210,
                                         .sample_index = 3,
                                         .num_top_logprobs = 5,
                                         .want_logprobs = true,
                                         .mask_eos = true}});
  plan.sequences.push_back({.num_tokens = 1, .first_position = 15, .block_ids = {7}});
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
      std::string(DecodeStepPlan(Replace(EncodeStepPlan(MakePlan()), 4, 2)).status().message()),
      HasSubstr("version"));
}

// Counts that promise gigabytes are refused by comparing them with the bytes that are there.
TEST(StepPlanCodec, BelievesNoCount) {
  const std::vector<std::byte> bytes = EncodeStepPlan(MakePlan());
  for (const size_t offset : {size_t{24}, size_t{28}, 32 + 18 * 4 + size_t{8}}) {
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
                "num_top_logprobs"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace phi::shard
