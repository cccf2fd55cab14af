#include "service/router/request_limits.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "service/api/error.h"

namespace phi::service {
namespace {

absl::Status CheckTokenIds(const phi::v1::TokenIds& token_ids,
                           bool truncates,
                           const ModelLimits& model) {
  if (!truncates && static_cast<uint32_t>(token_ids.ids_size()) >= model.context_tokens) {
    return PromptTooLong(
        "token_ids", static_cast<size_t>(token_ids.ids_size()), model.context_tokens);
  }
  const bool all_real = std::all_of(token_ids.ids().begin(),
                                    token_ids.ids().end(),
                                    [&](uint32_t id) { return id < model.vocabulary_tokens; });
  if (all_real) return absl::OkStatus();
  return MakeFieldError(
      ErrorReason::kTokenIdOutOfRange, "token_ids", "a token id must be below the vocabulary");
}

absl::Status CheckPrompt(const phi::v1::GenerateRequest& request, const ModelLimits& model) {
  switch (request.prompt_case()) {
    case phi::v1::GenerateRequest::kText:
      if (request.text().empty()) break;
      return absl::OkStatus();
    case phi::v1::GenerateRequest::kTokenIds:
      if (request.token_ids().ids().empty()) break;
      return CheckTokenIds(request.token_ids(), request.parameters().has_truncate_prompt(), model);
    case phi::v1::GenerateRequest::PROMPT_NOT_SET:
      break;
  }
  return MakeFieldError(ErrorReason::kEmptyPrompt,
                        request.has_token_ids() ? "token_ids" : "text",
                        "the prompt is empty");
}

// Memory of one answer is bounded; a stream has no such limit, because it goes out as it grows.
absl::Status CheckAnswerSize(const GenerationParameters& parameters) {
  const uint64_t tokens = parameters.max_new_tokens.value_or(kDefaultMaxNewTokens);
  const uint64_t entries = parameters.n * tokens * (uint64_t{parameters.logprobs.value_or(0)} + 1);
  if (entries <= kMaxUnaryTokens) return absl::OkStatus();
  return MakeFieldError(ErrorReason::kResponseTooLarge,
                        "parameters.max_new_tokens",
                        "the answer may not fit one message; use GenerateStream");
}

}  // namespace

absl::Status PromptTooLong(std::string_view prompt_field) {
  return MakeFieldError(ErrorReason::kPromptTooLong,
                        prompt_field,
                        "the prompt leaves no room for a token in the context");
}

absl::Status PromptTooLong(std::string_view prompt_field,
                           size_t prompt_tokens,
                           uint32_t context_tokens) {
  return MakeFieldError(
      ErrorReason::kPromptTooLong,
      prompt_field,
      absl::StrFormat("a prompt of %d tokens leaves no room for another in the context of %d",
                      prompt_tokens,
                      context_tokens));
}

absl::Status CheckRequestId(std::string_view request_id) {
  const bool printable = std::all_of(
      request_id.begin(), request_id.end(), [](char c) { return c >= ' ' && c <= '~'; });
  if (printable && request_id.size() <= kMaxRequestIdBytes) return absl::OkStatus();
  return MakeFieldError(
      ErrorReason::kInvalidRequestId, "request_id", "at most 128 bytes of printable ASCII");
}

absl::StatusOr<GenerationParameters> CheckRequest(const phi::v1::GenerateRequest& request,
                                                  bool unary,
                                                  const RequestLimits& limits) {
  if (!request.model().empty() && request.model() != limits.model_name) {
    return MakeFieldError(ErrorReason::kModelNotFound, "model", "another model is served here");
  }
  PHI_ASSIGN_OR_RETURN(GenerationParameters parameters,
                       ParseGenerationParameters(request.parameters(), limits.model));
  PHI_RETURN_IF_ERROR(CheckPrompt(request, limits.model));
  if (unary) PHI_RETURN_IF_ERROR(CheckAnswerSize(parameters));
  return parameters;
}

absl::StatusOr<TokenBudget> FitContext(size_t prompt_tokens,
                                       std::string_view prompt_field,
                                       const GenerationParameters& parameters,
                                       uint32_t context_tokens) {
  if (prompt_tokens >= context_tokens) {
    return PromptTooLong(prompt_field, prompt_tokens, context_tokens);
  }
  const auto room = static_cast<uint32_t>(context_tokens - prompt_tokens);
  if (parameters.max_new_tokens.has_value() && *parameters.max_new_tokens > room) {
    return MakeFieldError(
        ErrorReason::kContextExceeded,
        "parameters.max_new_tokens",
        absl::StrFormat("prompt of %d tokens and max_new_tokens of %d exceed the context of %d",
                        prompt_tokens,
                        *parameters.max_new_tokens,
                        context_tokens));
  }
  const uint32_t wanted = parameters.max_new_tokens.value_or(kDefaultMaxNewTokens);
  const TokenBudget budget{.max_new_tokens = std::min(wanted, room),
                           .bounded_by_context = room < wanted};
  if (parameters.min_new_tokens > budget.max_new_tokens) {
    return MakeFieldError(
        ErrorReason::kFieldOutOfRange,
        "parameters.min_new_tokens",
        "must not be above max_new_tokens, which is 256 or what the context leaves");
  }
  return budget;
}

}  // namespace phi::service
