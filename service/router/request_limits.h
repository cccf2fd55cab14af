#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "phi/v1/generation.pb.h"
#include "service/api/generation_parameters.h"

// What a request may ask for. Pure, and in the order in which a call uses it: first everything that
// can be refused without tokenizing (I7), then what needs the prompt's length. Errors are those of
// service/api/error.h.
namespace phi::service {

struct RequestLimits {
  ModelLimits model;
  std::string model_name;
};

// At most kMaxRequestIdBytes of printable ASCII; empty is fine.
absl::Status CheckRequestId(std::string_view request_id);

// Everything but the request id and the length of a text. `unary`: for Generate, whose answer is
// one message.
absl::StatusOr<GenerationParameters> CheckRequest(const phi::v1::GenerateRequest& request,
                                                  bool unary,
                                                  const RequestLimits& limits);

struct TokenBudget {
  uint32_t max_new_tokens = 0;  // at least 1; with the prompt at most the context
  // Whether max_new_tokens is what the context leaves of the default: the end is then
  // CONTEXT_LENGTH.
  bool bounded_by_context = false;
};

// `prompt_tokens`: after truncate_prompt; not 0. `prompt_field`: "text" or "token_ids".
absl::StatusOr<TokenBudget> FitContext(size_t prompt_tokens,
                                       std::string_view prompt_field,
                                       const GenerationParameters& parameters,
                                       uint32_t context_tokens);

// Of a text, whose tokens are counted no further than the context.
absl::Status PromptTooLong(std::string_view prompt_field);
absl::Status PromptTooLong(std::string_view prompt_field,
                           size_t prompt_tokens,
                           uint32_t context_tokens);

}  // namespace phi::service
