#include "tests/parallel/rank_group.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <random>
#include <utility>

#include "absl/time/time.h"

namespace phi::shard {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);

// One prompt on its way.
struct Sequence {
  const Prompt* prompt = nullptr;
  std::vector<uint32_t> ids = {};  // prompt and what was generated
  std::vector<uint32_t> block_ids = {};
  uint32_t num_cached = 0;  // positions in the KV cache
  std::vector<SampledToken> answer = {};

  bool done() const { return answer.size() == prompt->num_new_tokens; }
  uint32_t num_waiting() const { return static_cast<uint32_t>(ids.size()) - num_cached; }
};

// The rows of `sequence` in the next step.
PlannedSequence PlanRows(const Sequence& sequence, uint32_t num_tokens) {
  const uint32_t end = sequence.num_cached + num_tokens;
  const uint32_t num_blocks = (end + kernels::kKvBlockTokens - 1) / kernels::kKvBlockTokens;
  PlannedSequence planned{
      .num_tokens = num_tokens,
      .first_position = sequence.num_cached,
      .block_ids = {sequence.block_ids.begin(), sequence.block_ids.begin() + num_blocks},
      .num_draws = num_tokens == sequence.num_waiting() ? 1U : 0U,
      .sampling = sequence.prompt->sampling};
  if (planned.num_draws > 0 && HasPenalties(planned.sampling)) {
    planned.history = sequence.ids;
    planned.num_prompt_tokens = static_cast<uint32_t>(sequence.prompt->ids.size());
  }
  return planned;
}

void Append(const SampledToken& token, Sequence& sequence) {
  const std::vector<uint32_t>& forced = sequence.prompt->forced;
  const size_t index = sequence.answer.size();
  sequence.ids.push_back(index < forced.size() ? forced[index] : token.token_id);
  sequence.answer.push_back(token);
  sequence.answer.back().sequence_index =
      0;  // where it stood in its steps is no part of the answer
}

}  // namespace

RankGroup::RankGroup(const GroupOptions& options)
    : all_ranks_(options.world_size), stats_(static_cast<size_t>(options.world_size)) {
  std::vector<int> leader_sockets;
  for (int rank = 1; rank < options.world_size; ++rank) {
    std::array<int, 2> sockets{};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets.data()), 0);
    leader_sockets.push_back(sockets[0]);
    followers_.emplace_back(
        [this, options, rank, socket = sockets[1]] { Follow(options, rank, socket); });
  }
  sender_.emplace(std::move(leader_sockets));
  leader_ = Create(options, 0, &progress_);
  all_ranks_.arrive_and_wait();
}

RankGroup::~RankGroup() { Stop(); }

std::unique_ptr<Rank> RankGroup::Create(const GroupOptions& options,
                                        int rank,
                                        RankProgress* progress) {
  RankParts parts = options.make_rank(
      {.rank = rank, .world_size = options.world_size, .store_dir = store_.path()});
  auto created = Rank::Create({.model_dir = options.model_dir,
                               .num_real_tokens = options.num_real_tokens,
                               .eos_token_id = options.eos_token_id,
                               .limits = options.limits},
                              std::move(parts.backend),
                              std::move(parts.communicator),
                              progress);
  EXPECT_TRUE(created.ok()) << created.status();
  return *std::move(created);
}

void RankGroup::Follow(const GroupOptions& options, int rank, int socket) {
  PlanReceiver receiver(socket);
  RankProgress progress;
  const std::unique_ptr<Rank> follower = Create(options, rank, &progress);
  all_ranks_.arrive_and_wait();
  for (;;) {
    absl::StatusOr<StepPlan> plan = receiver.Receive(kPatience);
    if (absl::IsCancelled(plan.status())) break;
    EXPECT_TRUE(plan.ok()) << plan.status();
    if (!plan.ok()) break;
    absl::StatusOr<StepResult> result = follower->Execute(*plan);
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok()) break;
    EXPECT_TRUE(result->tokens.empty());
  }
  all_ranks_.arrive_and_wait();
  stats_[static_cast<size_t>(rank)] = follower->collective_stats();
}

absl::StatusOr<StepResult> RankGroup::Execute(StepPlan plan) {
  plan.epoch = 1;
  plan.step = next_step_++;
  const absl::Status sent = sender_->Send(plan, kPatience);
  EXPECT_TRUE(sent.ok()) << sent;
  return leader_->Execute(plan);
}

std::vector<CollectiveStats> RankGroup::Stop() {
  if (leader_ == nullptr) return stats_;
  stats_[0] = leader_->collective_stats();
  sender_.reset();
  all_ranks_.arrive_and_wait();
  leader_.reset();
  followers_.clear();
  return stats_;
}

std::vector<std::vector<SampledToken>> Generate(RankGroup& group,
                                                const std::vector<Prompt>& prompts,
                                                const Schedule& schedule,
                                                uint32_t num_kv_blocks) {
  std::mt19937 random(schedule.seed);
  std::vector<uint32_t> free_blocks(num_kv_blocks);
  std::iota(free_blocks.begin(), free_blocks.end(), 0);
  std::shuffle(free_blocks.begin(), free_blocks.end(), random);
  std::vector<Sequence> sequences;
  for (const Prompt& prompt : prompts) {
    Sequence& sequence = sequences.emplace_back(Sequence{.prompt = &prompt, .ids = prompt.ids});
    const size_t length = prompt.ids.size() + prompt.num_new_tokens;
    for (size_t i = 0; i * kernels::kKvBlockTokens < length; ++i) {
      sequence.block_ids.push_back(free_blocks.back());
      free_blocks.pop_back();
    }
  }
  for (uint32_t step = 0;; ++step) {
    StepPlan plan;
    std::vector<Sequence*> planned;
    for (Sequence& sequence : sequences) {
      if (sequence.done() || step < sequence.prompt->arrival_step) continue;
      const uint32_t chunk = schedule.whole_prompts
                                 ? sequence.num_waiting()
                                 : 1 + static_cast<uint32_t>(random() % schedule.max_chunk);
      const uint32_t num_tokens = std::min(chunk, sequence.num_waiting());
      const auto first = sequence.ids.begin() + sequence.num_cached;
      plan.token_ids.insert(plan.token_ids.end(), first, first + num_tokens);
      plan.sequences.push_back(PlanRows(sequence, num_tokens));
      sequence.num_cached += num_tokens;
      planned.push_back(&sequence);
    }
    if (std::all_of(sequences.begin(), sequences.end(), [](const Sequence& s) { return s.done(); }))
      break;
    absl::StatusOr<StepResult> result = group.Execute(std::move(plan));
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok()) break;
    for (const SampledToken& token : result->tokens) Append(token, *planned[token.sequence_index]);
  }
  std::vector<std::vector<SampledToken>> answers;
  answers.reserve(sequences.size());
  for (Sequence& sequence : sequences) answers.push_back(std::move(sequence.answer));
  return answers;
}

}  // namespace phi::shard
