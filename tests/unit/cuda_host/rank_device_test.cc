#include "service/worker/device/rank_device.h"

#include <gmock/gmock.h>
#include <sys/socket.h>

#include <array>
#include <future>
#include <thread>

#include "kernels/cuda/cuda_devices.h"
#include "shard/rank.h"
#include "tests/parallel/rank_threads.h"
#include "tests/unit/cuda_host/device_fixture.h"
#include "tools/make_checkpoint/random_checkpoint.h"

// A rank's life on CUDA as rank_process leads it, executed on the host: backend, NCCL's id over the
// plan channel, plans, tokens.
namespace phi::service {
namespace {

const tools::ModelShape kShape{.vocab_size = 331,
                               .hidden_size = 64,
                               .intermediate_size = 96,
                               .num_hidden_layers = 2,
                               .num_attention_heads = 4,
                               .max_position_embeddings = 64};
constexpr uint32_t kPromptTokens = 13;  // the second block begins within the answer
constexpr uint32_t kSteps = 6;

class RankDeviceTest : public cuda_host::DeviceTest {
 protected:
  RankDeviceTest() {
    const absl::Status made = tools::WriteRandomCheckpoint(
        {.dir = dir_.path(), .shape = kShape, .seed = 3, .tokenizer_path = "", .on_progress = {}});
    EXPECT_TRUE(made.ok()) << made;
  }

  RankSpec Spec(const char* device, int world_size) const {
    RankSpec spec;
    spec.world_size = world_size;
    spec.device = device;
    spec.dtype = "float32";
    spec.isa = "auto";
    spec.context_tokens = static_cast<uint32_t>(kShape.max_position_embeddings);
    spec.hidden_size = kShape.hidden_size;
    spec.max_sequences = 2;
    spec.max_step_tokens = 16;
    spec.num_kv_blocks = 4;
    spec.stall_limit_ms = 30'000;
    return spec;
  }

  // As rank_process does.
  absl::StatusOr<std::unique_ptr<shard::Rank>> Load(const RankSpec& spec,
                                                    PlanEnd& plan_end,
                                                    shard::RankProgress* progress) {
    auto backend = MakeRankBackend(spec);
    EXPECT_TRUE(backend.ok()) << backend.status();
    auto communicator = ConnectRanks(spec, **backend, plan_end);
    EXPECT_TRUE(communicator.ok()) << communicator.status();
    return shard::Rank::Create({.model_dir = dir_.path(),
                                .num_real_tokens = 300,
                                .eos_token_id = 256,
                                .limits = {.max_sequences = spec.max_sequences,
                                           .max_step_tokens = spec.max_step_tokens,
                                           .num_kv_blocks = spec.num_kv_blocks}},
                               *std::move(backend),
                               *std::move(communicator),
                               progress);
  }

  // One prompt's greedy continuation, as this rank draws it; followers draw nothing.
  std::vector<uint32_t> Serve(const RankSpec& spec) {
    PlanEnd plan_end(spec);
    shard::RankProgress progress;
    const auto rank = Load(spec, plan_end, &progress);
    EXPECT_TRUE(rank.ok()) << rank.status();
    return spec.rank == 0 ? Lead(**rank, *plan_end.sender) : Follow(**rank, *plan_end.receiver);
  }

  // The ranks of a group, joined by the sockets that a supervisor would have made.
  std::vector<RankSpec> GroupSpecs(int world_size, bool batch_invariant) const {
    std::vector<RankSpec> specs(static_cast<size_t>(world_size), Spec("cuda", world_size));
    for (int rank = 0; rank < world_size; ++rank) {
      RankSpec& spec = specs[static_cast<size_t>(rank)];
      spec.rank = rank;
      spec.batch_invariant = batch_invariant;
      if (rank == 0) continue;
      std::array<int, 2> sockets{};
      EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets.data()), 0);
      specs[0].plan_fds.push_back(sockets[0]);
      spec.plan_fds.push_back(sockets[1]);
    }
    return specs;
  }

  // All ranks of a group as threads.
  std::vector<uint32_t> ServeOnGpus(int world_size, bool batch_invariant) {
    const std::vector<RankSpec> specs = GroupSpecs(world_size, batch_invariant);
    std::vector<uint32_t> tokens;
    std::vector<std::jthread> threads;
    threads.reserve(specs.size());
    for (const RankSpec& spec : specs) {
      threads.emplace_back([&] {
        std::vector<uint32_t> drawn = Serve(spec);
        if (spec.rank == 0) tokens = std::move(drawn);
      });
    }
    threads.clear();
    return tokens;
  }

 private:
  static std::vector<uint32_t> Lead(shard::Rank& rank, shard::PlanSender& sender) {
    std::vector<uint32_t> tokens;
    for (uint32_t step = 0; step < kSteps; ++step) {
      shard::StepPlan plan{.epoch = 1, .step = step};
      for (uint32_t i = 0; step == 0 && i < kPromptTokens; ++i) plan.token_ids.push_back(7 * i + 1);
      if (step > 0) plan.token_ids.push_back(tokens.back());
      const uint32_t first = step == 0 ? 0 : kPromptTokens + step - 1;
      const auto count = static_cast<uint32_t>(plan.token_ids.size());
      plan.sequences.push_back(
          {.num_tokens = count, .first_position = first, .block_ids = {3}, .num_draws = 1});
      if (first + count > kernels::kKvBlockTokens) plan.sequences[0].block_ids.push_back(1);
      EXPECT_TRUE(sender.Send(plan, absl::Seconds(30)).ok());
      const auto result = rank.Execute(plan);
      EXPECT_TRUE(result.ok()) << result.status();
      if (!result.ok()) break;
      tokens.push_back(result->tokens.at(0).token_id);
    }
    return tokens;
  }

  static std::vector<uint32_t> Follow(shard::Rank& rank, shard::PlanReceiver& receiver) {
    for (uint32_t step = 0; step < kSteps; ++step) {
      const auto plan = receiver.Receive(absl::Seconds(60));
      EXPECT_TRUE(plan.ok()) << plan.status();
      if (!plan.ok() || !rank.Execute(*plan).ok()) break;
    }
    return {};
  }

  shard::TemporaryDir dir_;
};

TEST_F(RankDeviceTest, RanksOnGpusDrawTheCpusTokens) {
  const std::vector<uint32_t> expected = Serve(Spec("cpu", 1));
  ASSERT_EQ(expected.size(), kSteps);
  for (const int world_size : {1, 2, 4}) {
    EXPECT_EQ(ServeOnGpus(world_size, false), expected) << world_size << " ranks";
  }
  EXPECT_EQ(ServeOnGpus(2, true), expected) << "batch-invariant";
}

// NCCL's communicator is taken down by all ranks or by none: a rank that cannot go on does not wait
// for others, who know of nothing.
TEST_F(RankDeviceTest, ARankThatCannotLoadAfterConnectingEndsAtOnce) {
  std::vector<RankSpec> specs = GroupSpecs(2, false);
  specs[1].num_kv_blocks = 1U << 24;  // more than a device has room for
  std::promise<absl::Status> end;
  std::vector<std::jthread> threads;
  threads.emplace_back([&] {
    PlanEnd plan_end(specs[0]);
    shard::RankProgress progress;
    const auto rank = Load(specs[0], plan_end, &progress);
    EXPECT_TRUE(rank.ok()) << rank.status();
    auto ended = end.get_future();
    ASSERT_EQ(ended.wait_for(std::chrono::seconds(60)), std::future_status::ready);
    EXPECT_TRUE(absl::IsResourceExhausted(ended.get()));
  });
  threads.emplace_back([&] {
    PlanEnd plan_end(specs[1]);
    shard::RankProgress progress;
    end.set_value(Load(specs[1], plan_end, &progress).status());
  });
}

TEST_F(RankDeviceTest, LayoutIsTheBackends) {
  for (const char* device : {"cpu", "cuda"}) {
    for (const auto dtype : {kernels::DType::kFloat32, kernels::DType::kBFloat16}) {
      RankSpec spec = Spec(device, 1);
      spec.dtype = kernels::DTypeName(dtype);
      const auto backend = MakeRankBackend(spec);
      const auto layout = MakeMemoryLayout(device, dtype, "auto");
      ASSERT_TRUE(backend.ok() && layout.ok());
      const kernels::AttentionShape attention{
          .num_heads = 3, .num_key_value_heads = 3, .head_dim = 20};
      EXPECT_EQ((*layout)->PackedMatrixBytes(100, 70), (*backend)->PackedMatrixBytes(100, 70));
      EXPECT_EQ((*layout)->KvBlockBytes(attention), (*backend)->KvBlockBytes(attention));
      EXPECT_EQ((*layout)->dtype(), (*backend)->dtype());
    }
  }
}

TEST_F(RankDeviceTest, ScratchIsNoMoreThanPlanned) {
  RankSpec spec = Spec("cuda", 1);
  spec.max_sequences = 4096;
  spec.max_step_tokens = 65536;
  spec.context_tokens = 2048;
  const uint64_t before = FreeMemoryBytes(spec);
  const auto listed = kernels::ListCudaDevices();
  ASSERT_TRUE(listed.ok()) << listed.status();
  EXPECT_EQ(listed->size(), static_cast<size_t>(cuda_host::kNumDevices));
  const auto backend = MakeRankBackend(spec);
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_LT(FreeMemoryBytes(spec), before);
  EXPECT_GE(FreeMemoryBytes(spec), listed->front().free_bytes);
}

TEST_F(RankDeviceTest, AnOldGpuIsNamedAndHidesNoOther) {
  cuda_host::Configure({.old_devices_from = 2});
  const auto listed = kernels::ListCudaDevices();
  ASSERT_TRUE(listed.ok()) << listed.status();
  ASSERT_EQ(listed->size(), static_cast<size_t>(cuda_host::kNumDevices));
  EXPECT_EQ(listed->at(1).problem, "");
  EXPECT_EQ(listed->at(1).instruction_set, "sm_90");
  EXPECT_THAT(listed->at(2).problem, testing::HasSubstr("GPU 2: "));
  EXPECT_THAT(listed->at(2).problem, testing::HasSubstr("7.0, and 8.0 is the oldest supported"));
}

TEST_F(RankDeviceTest, ADeviceThatIsNotThereIsSaidSo) {
  RankSpec spec = Spec("cuda", 1);
  spec.rank = cuda_host::kNumDevices;
  EXPECT_TRUE(absl::IsFailedPrecondition(MakeRankBackend(spec).status()));
}

}  // namespace
}  // namespace phi::service
