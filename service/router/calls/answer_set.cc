#include "service/router/calls/answer_set.h"

#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "service/api/error.h"

namespace phi::service {
namespace {

// What the tokens take as parts of a message that waits, an estimate from above: an id, and with
// log-probabilities an object with a text of its own for each candidate.
size_t BytesOf(const phi::worker::v1::GenerateResponse& message) {
  constexpr size_t kCandidateBytes = 128;
  size_t bytes = 0;
  for (const auto& token : message.tokens()) {
    bytes += sizeof(uint32_t);
    if (token.has_logprob()) bytes += kCandidateBytes * (1 + static_cast<size_t>(token.top_size()));
  }
  return bytes;
}

}  // namespace

AnswerSet::AnswerSet(const Tokenizer& tokenizer,
                     const GenerationParameters& parameters,
                     std::string_view prompt) {
  samples_.reserve(parameters.n);
  for (uint32_t i = 0; i < parameters.n; ++i) {
    samples_.push_back({.builder = AnswerBuilder(tokenizer, parameters, prompt), .pending = {}});
  }
}

absl::StatusOr<std::optional<phi::v1::FinishReason>> AnswerSet::Add(
    const phi::worker::v1::GenerateResponse& message) {
  if (message.index() >= samples_.size()) {
    return MakeError(ErrorReason::kInternal, "the replica sent a sample that is none");
  }
  Sample& sample = samples_[message.index()];
  // Tokens that were on their way when a stop was found.
  if (sample.builder.ended()) return std::nullopt;
  const size_t text_before = sample.pending.text().size();
  const int ids_before = sample.pending.token_ids_size();
  PHI_RETURN_IF_ERROR(sample.builder.Add(message, sample.pending));
  const size_t bytes = sample.pending.text().size() - text_before + BytesOf(message);
  sample.pending_bytes += bytes;
  pending_bytes_ += bytes;
  const bool first_token = !has_token_ && !message.tokens().empty();
  has_token_ |= first_token;
  if (first_token || sample.builder.ended() || sample.pending.text().size() != text_before ||
      sample.pending.token_ids_size() != ids_before) {
    SetPending(sample);
  }
  num_ended_ += sample.builder.ended() ? 1 : 0;
  if (!sample.builder.ended() || message.finish_reason() != phi::v1::FINISH_REASON_UNSPECIFIED)
    return std::nullopt;
  return sample.pending.finish().reason();
}

void AnswerSet::FinishAll(phi::v1::FinishReason reason) {
  for (Sample& sample : samples_) {
    if (sample.builder.ended()) continue;
    sample.builder.Finish(reason, sample.pending);
    ++num_ended_;
    SetPending(sample);
  }
}

uint32_t AnswerSet::generated_tokens() const {
  uint32_t sum = 0;
  for (const Sample& sample : samples_) sum += sample.builder.generated_tokens();
  return sum;
}

void AnswerSet::SetPending(Sample& sample) {
  num_pending_ += sample.has_pending ? 0 : 1;
  sample.has_pending = true;
}

phi::v1::GenerateStreamResponse AnswerSet::TakePending() {
  PHI_CHECK(num_pending_ > 0, "%zu samples, none pending", samples_.size());
  while (!samples_[turn_].has_pending) turn_ = (turn_ + 1) % samples_.size();
  const auto index = static_cast<uint32_t>(turn_);
  Sample& sample = samples_[index];
  turn_ = (turn_ + 1) % samples_.size();
  --num_pending_;
  sample.has_pending = false;
  pending_bytes_ -= std::exchange(sample.pending_bytes, 0);
  phi::v1::GenerateStreamResponse message = std::exchange(sample.pending, {});
  message.set_index(index);
  return message;
}

std::vector<phi::v1::GenerateStreamResponse> AnswerSet::TakeAll() {
  std::vector<phi::v1::GenerateStreamResponse> answers;
  answers.reserve(samples_.size());
  for (Sample& sample : samples_) {
    sample.pending.set_index(static_cast<uint32_t>(answers.size()));
    answers.push_back(std::exchange(sample.pending, {}));
    sample.pending_bytes = 0;
    sample.has_pending = false;
  }
  num_pending_ = 0;
  pending_bytes_ = 0;
  return answers;
}

}  // namespace phi::service
