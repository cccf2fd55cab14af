#include "service/router/calls/answer_builder.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "kernels/base/status_macros.h"
#include "service/api/error.h"

namespace phi::service {
namespace {

StopRules RulesOf(const GenerationParameters& parameters) {
  StopRules rules{.strings = parameters.stop,
                  .conditions = {},
                  .include_stop = parameters.include_stop,
                  .min_new_tokens = parameters.min_new_tokens};
  for (const phi::v1::StopCondition condition : parameters.stop_conditions) {
    rules.conditions.push_back(static_cast<StopCondition>(condition));
  }
  return rules;
}

template <typename Entry, typename Candidate>
void FillLogprob(const Tokenizer& tokenizer, const Candidate& from, Entry& entry) {
  entry.set_token_id(from.token_id());
  entry.set_logprob(from.logprob());
  entry.set_piece(std::string(tokenizer.TokenBytes(from.token_id())));
}

}  // namespace

AnswerBuilder::AnswerBuilder(const Tokenizer& tokenizer,
                             const GenerationParameters& parameters,
                             std::string_view prompt)
    : tokenizer_(tokenizer),
      parameters_(parameters),
      text_(tokenizer, RulesOf(parameters), prompt) {}

absl::Status AnswerBuilder::Add(const phi::worker::v1::GenerateResponse& message,
                                phi::v1::GenerateStreamResponse& answer) {
  if (!phi::v1::FinishReason_IsValid(message.finish_reason())) {
    return MakeError(ErrorReason::kInternal, "the replica sent a finish reason that is none");
  }
  for (const auto& token : message.tokens()) {
    if (ended_) return absl::OkStatus();
    PHI_RETURN_IF_ERROR(AddToken(token, answer));
  }
  if (message.finish_reason() != phi::v1::FINISH_REASON_UNSPECIFIED)
    Finish(message.finish_reason(), answer);
  return absl::OkStatus();
}

absl::Status AnswerBuilder::AddToken(const phi::worker::v1::GeneratedToken& token,
                                     phi::v1::GenerateStreamResponse& answer) {
  const auto is_real = [&](const auto& candidate) {
    return candidate.token_id() < tokenizer_.vocab_size();
  };
  if (!is_real(token) || !std::all_of(token.top().begin(), token.top().end(), is_real)) {
    return MakeError(ErrorReason::kInternal, "the replica sent a token that is none");
  }
  ++generated_tokens_;
  held_tokens_.push_back(token);
  if (EndsSequence(token.token_id())) {
    stop_token_ = token.token_id();
    const bool is_eos = token.token_id() == tokenizer_.eos_id() && !parameters_.ignore_eos;
    if (is_eos || !parameters_.include_stop) return absl::OkStatus();
  }
  PHI_ASSIGN_OR_RETURN(TextDelta delta, text_.Append(token.token_id()));
  AddDelta(std::move(delta), answer);
  return absl::OkStatus();
}

// The worker's own rule: a stop id counts only after min_new_tokens, until which EOS cannot be
// drawn.
bool AnswerBuilder::EndsSequence(uint32_t token_id) const {
  if (token_id == tokenizer_.eos_id() && !parameters_.ignore_eos) return true;
  const auto& stops = parameters_.stop_token_ids;
  return generated_tokens_ > parameters_.min_new_tokens &&
         std::find(stops.begin(), stops.end(), token_id) != stops.end();
}

void AnswerBuilder::Finish(phi::v1::FinishReason reason, phi::v1::GenerateStreamResponse& answer) {
  if (ended_) return;
  AddDelta(text_.Finish(), answer);
  if (ended_) return;  // U+FFFD for a last half character may itself complete a stop
  ended_ = true;
  while (!held_tokens_.empty()) AddHeldToken(answer);
  phi::v1::Finish& finish = *answer.mutable_finish();
  finish.set_reason(reason);
  finish.set_generated_tokens(generated_tokens_);
  if (reason == phi::v1::FINISH_REASON_STOP_TOKEN && stop_token_.has_value()) {
    finish.set_token_id(*stop_token_);
  }
}

void AnswerBuilder::AddDelta(TextDelta delta, phi::v1::GenerateStreamResponse& answer) {
  answer.mutable_text()->append(delta.text);
  for (size_t i = 0; i < delta.tokens; ++i) AddHeldToken(answer);
  if (!delta.stop.has_value()) return;
  ended_ = true;
  while (!held_tokens_.empty()) AddHeldToken(answer);
  phi::v1::Finish& finish = *answer.mutable_finish();
  finish.set_generated_tokens(generated_tokens_);
  if (const auto* text = std::get_if<std::string>(&*delta.stop)) {
    finish.set_reason(phi::v1::FINISH_REASON_STOP_STRING);
    finish.set_stop(*text);
  } else {
    finish.set_reason(phi::v1::FINISH_REASON_STOP_CONDITION);
    finish.set_condition(static_cast<phi::v1::StopCondition>(std::get<StopCondition>(*delta.stop)));
  }
}

void AnswerBuilder::AddHeldToken(phi::v1::GenerateStreamResponse& answer) {
  const phi::worker::v1::GeneratedToken token = std::move(held_tokens_.front());
  held_tokens_.pop_front();
  answer.add_token_ids(token.token_id());
  if (!parameters_.logprobs.has_value()) return;
  phi::v1::TokenLogprob& entry = *answer.add_logprobs();
  FillLogprob(tokenizer_, token, entry);
  for (const auto& candidate : token.top()) FillLogprob(tokenizer_, candidate, *entry.add_top());
}

}  // namespace phi::service
