#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "phi/v1/generation.pb.h"
#include "phi/worker/v1/worker.pb.h"
#include "service/router/calls/answer_builder.h"

namespace phi::service {

// The answers of a call's n samples, and what of them has not gone out yet: one message a sample,
// which grows until it is taken. Not thread-safe.
class AnswerSet {
 public:
  // As AnswerBuilder, for samples 0 to parameters.n - 1.
  AnswerSet(const Tokenizer& tokenizer,
            const GenerationParameters& parameters,
            std::string_view prompt);

  // Adds what `message` brings to its sample. The reason, where a stop in the text ended the
  // sample, which the replica does not know yet. INTERNAL for an index, a token or a reason that is
  // none.
  absl::StatusOr<std::optional<phi::v1::FinishReason>> Add(
      const phi::worker::v1::GenerateResponse& message);
  // No more tokens come to any sample.
  void FinishAll(phi::v1::FinishReason reason);

  bool ended() const { return num_ended_ == samples_.size(); }
  // Of all samples.
  uint32_t generated_tokens() const;

  // Samples with something that has not gone out, and an estimate of its bytes. The very first
  // token is something, also without text.
  size_t num_pending() const { return num_pending_; }
  size_t pending_bytes() const { return pending_bytes_; }
  // Of one of them, in turns. Not for num_pending() == 0.
  phi::v1::GenerateStreamResponse TakePending();
  // Of every sample, by index, also where nothing is pending.
  std::vector<phi::v1::GenerateStreamResponse> TakeAll();

 private:
  struct Sample {
    AnswerBuilder builder;
    phi::v1::GenerateStreamResponse pending;
    size_t pending_bytes = 0;
    bool has_pending = false;
  };
  void SetPending(Sample& sample);

  std::vector<Sample> samples_;
  size_t num_ended_ = 0;
  size_t num_pending_ = 0;
  size_t pending_bytes_ = 0;
  size_t turn_ = 0;  // who is looked at first for TakePending
  bool has_token_ = false;
};

}  // namespace phi::service
