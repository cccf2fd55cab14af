#include "shard/rank.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "kernels/cpu/cpu_backend.h"
#include "shard/collective/single_rank_communicator.h"
#include "tests/parallel/rank_threads.h"
#include "tools/make_checkpoint/random_checkpoint.h"

namespace phi::shard {
namespace {

using ::testing::HasSubstr;

const tools::ModelShape kShape{.vocab_size = 331,
                               .hidden_size = 60,
                               .intermediate_size = 72,
                               .num_hidden_layers = 2,
                               .num_attention_heads = 3,
                               .max_position_embeddings = 64};
constexpr RankLimits kLimits{.max_sequences = 3, .max_step_tokens = 20, .num_kv_blocks = 12};

std::unique_ptr<kernels::Backend> MakeBackend() {
  auto backend = kernels::MakeCpuBackend({.dtype = kernels::DType::kBFloat16});
  EXPECT_TRUE(backend.ok()) << backend.status();
  return *std::move(backend);
}

// A place in a group whose peers are not there: sums stay as they are. Fails when told to.
class AbsentPeers final : public Communicator {
 public:
  AbsentPeers(int rank, int world_size) : rank_(rank), world_size_(world_size) {}
  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }
  absl::Status AllReduceSum(std::span<float> /*data*/) override {
    ++stats_.all_reduces;
    return status;
  }
  absl::Status GatherToRoot(std::span<const float> /*send*/,
                            std::span<const size_t> /*counts*/,
                            std::span<float> /*receive*/) override {
    return status;
  }
  const CollectiveStats& stats() const override { return stats_; }

  absl::Status status;

 private:
  int rank_;
  int world_size_;
  CollectiveStats stats_;
};

// A CPU backend that adds up what is taken from it, and what is copied to the host.
class CountingBackend final : public kernels::Backend {
 public:
  CountingBackend(std::unique_ptr<kernels::Backend> backend,
                  size_t& bytes,
                  size_t* copied = nullptr)
      : backend_(std::move(backend)), bytes_(bytes), copied_(copied) {}

  std::string Description() const override { return backend_->Description(); }
  std::string InstructionSet() const override { return backend_->InstructionSet(); }
  kernels::DType dtype() const override { return backend_->dtype(); }
  absl::StatusOr<std::unique_ptr<kernels::DeviceBuffer>> Allocate(size_t bytes) override {
    return Counted(backend_->Allocate(bytes));
  }
  absl::StatusOr<std::unique_ptr<kernels::PackedMatrix>> PackMatrix(
      int64_t rows, int64_t cols, std::span<const kernels::WeightSlice> slices) override {
    return Counted(backend_->PackMatrix(rows, cols, slices));
  }
  size_t PackedMatrixBytes(int64_t rows, int64_t cols) const override {
    return backend_->PackedMatrixBytes(rows, cols);
  }
  absl::StatusOr<std::unique_ptr<kernels::DeviceBuffer>> UploadTable(
      const kernels::WeightSlice& slice) override {
    return Counted(backend_->UploadTable(slice));
  }
  absl::StatusOr<std::unique_ptr<kernels::DeviceBuffer>> UploadFloats(
      std::span<const float> values) override {
    return Counted(backend_->UploadFloats(values));
  }
  size_t KvBlockBytes(const kernels::AttentionShape& shape) const override {
    return backend_->KvBlockBytes(shape);
  }
  void BeginStep(const kernels::StepBatch& batch) override { backend_->BeginStep(batch); }
  void CopyKvBlocks(const kernels::AttentionShape& shape, kernels::KvLayer cache) override {
    backend_->CopyKvBlocks(shape, cache);
  }
  void Embed(const kernels::DeviceBuffer& table, int64_t hidden_size, float* hidden) override {
    backend_->Embed(table, hidden_size, hidden);
  }
  void LayerNorm(const float* hidden,
                 int64_t hidden_size,
                 const kernels::NormWeights& norm,
                 kernels::Operands out) override {
    backend_->LayerNorm(hidden, hidden_size, norm, out);
  }
  void ResidualLayerNorm(float* hidden,
                         const float* partial,
                         const float* bias,
                         int64_t hidden_size,
                         const kernels::NormWeights& norm,
                         kernels::Operands out) override {
    backend_->ResidualLayerNorm(hidden, partial, bias, hidden_size, norm, out);
  }
  void InProjection(kernels::Operands in,
                    const kernels::PackedMatrix& weight,
                    const float* bias,
                    int64_t qkv_cols,
                    float* qkv,
                    kernels::Operands mlp) override {
    backend_->InProjection(in, weight, bias, qkv_cols, qkv, mlp);
  }
  void RotaryAndCacheWrite(const kernels::AttentionShape& shape,
                           const float* rotary,
                           float* qkv,
                           kernels::KvLayer cache) override {
    backend_->RotaryAndCacheWrite(shape, rotary, qkv, cache);
  }
  void PagedAttention(const kernels::AttentionShape& shape,
                      const float* qkv,
                      kernels::KvLayer cache,
                      kernels::Operands out) override {
    backend_->PagedAttention(shape, qkv, cache, out);
  }
  void OutProjection(kernels::Operands in,
                     const kernels::PackedMatrix& weight,
                     float* partial) override {
    backend_->OutProjection(in, weight, partial);
  }
  void LmHead(kernels::Operands in,
              const kernels::PackedMatrix& weight,
              const float* bias,
              float* logits) override {
    backend_->LmHead(in, weight, bias, logits);
  }
  absl::Status FinishStep() override { return backend_->FinishStep(); }
  void TopCandidates(const kernels::LogitsRows& rows, int count, kernels::Candidate* out) override {
    backend_->TopCandidates(rows, count, out);
  }
  absl::Status CopyToHost(void* to, const void* from, size_t bytes) override {
    if (copied_ != nullptr) *copied_ += bytes;
    return backend_->CopyToHost(to, from, bytes);
  }

 private:
  template <typename Owner>
  Owner Counted(Owner taken) {
    if (taken.ok()) bytes_ += (*taken)->bytes();
    return taken;
  }

  std::unique_ptr<kernels::Backend> backend_;
  size_t& bytes_;
  size_t* copied_;
};

class RankTest : public testing::Test {
 protected:
  void SetUp() override {
    const absl::Status made = tools::WriteRandomCheckpoint(
        {.dir = dir_.path(), .shape = kShape, .seed = 1, .tokenizer_path = "", .on_progress = {}});
    ASSERT_TRUE(made.ok()) << made;
  }

  RankOptions Options() const {
    return {
        .model_dir = dir_.path(), .num_real_tokens = 300, .eos_token_id = 256, .limits = kLimits};
  }

  std::unique_ptr<Rank> MakeRank(std::unique_ptr<Communicator> communicator) {
    auto rank = Rank::Create(Options(), MakeBackend(), std::move(communicator), &progress_);
    EXPECT_TRUE(rank.ok()) << rank.status();
    return *std::move(rank);
  }

  static StepPlan OneToken(uint64_t step) {
    StepPlan plan{.epoch = 4, .step = step, .token_ids = {7}};
    plan.sequences.push_back({.num_tokens = 1,
                              .first_position = static_cast<uint32_t>(step),
                              .block_ids = {2},
                              .num_draws = 1});
    return plan;
  }

  TemporaryDir dir_;
  RankProgress progress_;
};

TEST_F(RankTest, TakesExactlyThePlannedMemory) {
  for (const auto& [place, world_size] : {std::pair{0, 1}, {0, 2}, {1, 2}, {0, 3}, {2, 3}}) {
    size_t bytes = 0;
    auto rank = Rank::Create(Options(),
                             std::make_unique<CountingBackend>(MakeBackend(), bytes),
                             std::make_unique<AbsentPeers>(place, world_size),
                             &progress_);
    ASSERT_TRUE(rank.ok()) << rank.status();
    EXPECT_EQ(bytes, (*rank)->memory().total()) << place << " of " << world_size;
    EXPECT_GT((*rank)->memory().kv_cache, 0U);
    EXPECT_EQ((*rank)->memory().total(),
              PlanMemory((*rank)->config(), *MakeBackend(), kLimits, place, world_size).total());
  }
}

TEST_F(RankTest, AStepTakesNothingMore) {
  size_t bytes = 0;
  auto rank = Rank::Create(Options(),
                           std::make_unique<CountingBackend>(MakeBackend(), bytes),
                           MakeSingleRankCommunicator(),
                           &progress_);
  ASSERT_TRUE(rank.ok()) << rank.status();
  const size_t at_start = bytes;
  for (uint64_t step = 0; step < 3; ++step) ASSERT_TRUE((*rank)->Execute(OneToken(step)).ok());
  EXPECT_EQ(bytes, at_start);
}

// A draw that a few of the highest logits decide brings these to the host, another one whole rows:
// the same tokens either way.
TEST_F(RankTest, BringsNoMoreLogitsToTheHostThanTheDrawsNeed) {
  constexpr size_t kCandidate = sizeof(kernels::Candidate);
  constexpr size_t kRow = 331 * sizeof(float);
  struct DrawCase {
    SamplingParams sampling;
    size_t bytes;
  };
  for (const auto& [sampling, expected_bytes] :
       {DrawCase{{}, kCandidate},
        DrawCase{{.mask_eos = true}, 2 * kCandidate},
        DrawCase{{.temperature = 0.8F, .top_k = 5, .top_p = 0.9F, .seed = 3}, 5 * kCandidate},
        DrawCase{{.temperature = 0.8F, .top_k = 64, .seed = 3}, 64 * kCandidate},
        DrawCase{{.temperature = 0.8F, .top_k = 65, .seed = 3}, kRow},
        DrawCase{{.temperature = 0.8F, .seed = 3}, kRow},
        DrawCase{{.repetition_penalty = 1.2F}, kRow},
        DrawCase{{.logit_bias = {{5, 1.0F}}}, kRow}}) {
    std::vector<uint32_t> tokens[2];
    for (const bool want_logprobs : {false, true}) {
      size_t taken = 0;
      size_t copied = 0;
      auto rank = Rank::Create(Options(),
                               std::make_unique<CountingBackend>(MakeBackend(), taken, &copied),
                               MakeSingleRankCommunicator(),
                               &progress_);
      ASSERT_TRUE(rank.ok()) << rank.status();
      for (uint64_t step = 0; step < 8; ++step) {
        StepPlan plan = OneToken(step);
        plan.sequences[0].sampling = sampling;
        plan.sequences[0].sampling.want_logprobs = want_logprobs;
        if (HasPenalties(sampling)) {
          plan.sequences[0].history.assign(step + 1, 7);
          plan.sequences[0].num_prompt_tokens = 1;
        }
        copied = 0;
        const absl::StatusOr<StepResult> result = (*rank)->Execute(plan);
        ASSERT_TRUE(result.ok()) << result.status();
        tokens[want_logprobs ? 1 : 0].push_back(result->tokens.at(0).token_id);
        EXPECT_EQ(copied, want_logprobs ? kRow : expected_bytes);
      }
    }
    EXPECT_EQ(tokens[0], tokens[1]);
  }
}

TEST_F(RankTest, WritesItsProgress) {
  const std::unique_ptr<Rank> rank = MakeRank(MakeSingleRankCommunicator());
  EXPECT_EQ(progress_.activity, RankProgress::kIdle);
  EXPECT_EQ(progress_.steps_started, 0U);
  ASSERT_TRUE(rank->Execute(OneToken(0)).ok());
  EXPECT_EQ(progress_.steps_started, 1U);
  EXPECT_EQ(progress_.steps_finished, 1U);
  EXPECT_EQ(progress_.collective_index, 3U);  // two layers and the gather
  const int64_t last_change = progress_.last_change_ns;
  ASSERT_TRUE(rank->Execute({.epoch = 4, .step = 1}).ok());
  EXPECT_EQ(progress_.steps_finished, 2U);
  EXPECT_EQ(progress_.collective_index, 0U);
  EXPECT_GT(progress_.last_change_ns, last_change);
  EXPECT_EQ(progress_.activity, RankProgress::kIdle);
}

TEST_F(RankTest, ALostPeerLosesTheRank) {
  auto peers = std::make_unique<AbsentPeers>(0, 2);
  AbsentPeers& communicator = *peers;
  const std::unique_ptr<Rank> rank = MakeRank(std::move(peers));
  ASSERT_TRUE(rank->Execute(OneToken(0)).ok());
  communicator.status = absl::UnavailableError("rank 1 is gone");
  EXPECT_EQ(rank->Execute(OneToken(1)).status(), communicator.status);
  EXPECT_EQ(progress_.steps_started, 2U);
  EXPECT_EQ(progress_.steps_finished, 1U);
  const uint64_t all_reduces = communicator.stats().all_reduces;
  // I5: nothing is tried again, and nothing reaches the group.
  communicator.status = absl::OkStatus();
  EXPECT_EQ(rank->Execute(OneToken(1)).status(), absl::UnavailableError("rank 1 is gone"));
  EXPECT_EQ(communicator.stats().all_reduces, all_reduces);
}

TEST_F(RankTest, RefusesPlansOutOfOrder) {
  const auto refused = [&](const StepPlan& second) {
    const std::unique_ptr<Rank> rank = MakeRank(MakeSingleRankCommunicator());
    EXPECT_TRUE(rank->Execute(OneToken(0)).ok());
    return rank->Execute(second).status();
  };
  EXPECT_TRUE(refused(OneToken(1)).ok());
  EXPECT_EQ(refused(OneToken(0)).code(), absl::StatusCode::kInvalidArgument);  // again
  EXPECT_EQ(refused(OneToken(2)).code(), absl::StatusCode::kInvalidArgument);  // skips one
  StepPlan other_epoch = OneToken(1);
  other_epoch.epoch = 5;
  EXPECT_EQ(refused(other_epoch).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeRank(MakeSingleRankCommunicator())->Execute(OneToken(1)).status().code(),
            absl::StatusCode::kInvalidArgument);  // does not begin at 0
}

TEST_F(RankTest, RefusesPlansOutsideItsLimits) {
  const auto refused = [&](void (*damage)(StepPlan&)) {
    StepPlan plan = OneToken(0);
    damage(plan);
    return MakeRank(MakeSingleRankCommunicator())->Execute(plan).status().code();
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(refused([](StepPlan& plan) { plan.token_ids[0] = 331; }), kInvalid);
  EXPECT_EQ(refused([](StepPlan& plan) { plan.sequences[0].block_ids[0] = 12; }), kInvalid);
  EXPECT_EQ(refused([](StepPlan& plan) { plan.sequences[0].first_position = 64; }), kInvalid);
  EXPECT_EQ(refused([](StepPlan& plan) { plan.token_ids.resize(21); }), kInvalid);
}

TEST_F(RankTest, RefusesOptionsThatCannotBe) {
  const auto refused = [&](void (*damage)(RankOptions&)) {
    RankOptions options = Options();
    damage(options);
    const absl::Status status =
        Rank::Create(options, MakeBackend(), MakeSingleRankCommunicator(), &progress_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(refused([](RankOptions& o) { o.num_real_tokens = 332; }), HasSubstr("332 ids"));
  EXPECT_THAT(refused([](RankOptions& o) { o.num_real_tokens = 0; }), HasSubstr("0 ids"));
  EXPECT_THAT(refused([](RankOptions& o) { o.limits.num_kv_blocks = 0; }),
              HasSubstr("num_kv_blocks 0"));
  EXPECT_THAT(refused([](RankOptions& o) { o.limits.max_sequences = 1 << 20; }),
              HasSubstr("step plans of max_sequences 1048576"));
  auto too_many =
      Rank::Create(Options(), MakeBackend(), std::make_unique<AbsentPeers>(0, 4), &progress_);
  EXPECT_THAT(std::string(too_many.status().message()), HasSubstr("over 4 ranks"));
}

}  // namespace
}  // namespace phi::shard
