// Any bytes as a GenerateRequest, through everything that is checked before tokenization and the
// fit into the context: each ends in checked parameters within the published bounds, or in one
// error with a reason of ours and a code that blames the caller.
#include <google/protobuf/stubs/logging.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/base/check.h"
#include "service/api/error.h"
#include "service/api/grpc_status.h"
#include "service/router/calls/grpc_messages.h"
#include "service/router/request_limits.h"
#include "tests/fuzz/one_line.h"

namespace phi::service {
namespace {

const RequestLimits kLimits{
    .model = {.context_tokens = 512, .vocabulary_tokens = 2011, .max_time_limit_seconds = 600},
    .model_name = "phi-nano"};

void CheckRefusal(const absl::Status& status) {
  CheckOneLine(status);
  const auto details = GetErrorDetails(status);
  PHI_CHECK(details.has_value(), "no reason: %s", status.ToString().c_str());
  PHI_CHECK(status.code() == absl::StatusCode::kInvalidArgument ||
                status.code() == absl::StatusCode::kNotFound,
            "blames us: %s",
            status.ToString().c_str());
  const absl::Status back = FromGrpcStatus(ToGrpcStatus(status));
  PHI_CHECK(back == status, "changed on its way: %s", back.ToString().c_str());
}

void CheckAccepted(const GenerationParameters& parameters, bool unary) {
  PHI_CHECK(!parameters.max_new_tokens.has_value() ||
                (*parameters.max_new_tokens >= 1 && *parameters.max_new_tokens <= 512),
            "max_new_tokens %u",
            *parameters.max_new_tokens);
  PHI_CHECK(parameters.temperature >= 0 && parameters.temperature <= 2,
            "temperature %g",
            static_cast<double>(parameters.temperature));
  PHI_CHECK(parameters.top_p > 0 && parameters.top_p <= 1,
            "top_p %g",
            static_cast<double>(parameters.top_p));
  PHI_CHECK(parameters.min_p >= 0 && parameters.min_p <= 1,
            "min_p %g",
            static_cast<double>(parameters.min_p));
  PHI_CHECK(parameters.top_k <= 2011 && parameters.stop.size() <= 16 &&
                parameters.stop_token_ids.size() <= 64,
            "top_k %u",
            parameters.top_k);
  for (const std::string& stop : parameters.stop)
    PHI_CHECK(!stop.empty() && stop.size() <= 256, "stop %zu", stop.size());
  for (const uint32_t id : parameters.stop_token_ids) PHI_CHECK(id < 2011, "stop id %u", id);
  const uint64_t entries =
      uint64_t{parameters.max_new_tokens.value_or(256)} * (parameters.logprobs.value_or(0) + 1);
  PHI_CHECK(
      !unary || entries <= 32768, "unary answer of %llu", static_cast<unsigned long long>(entries));
}

void CheckFit(const GenerationParameters& parameters, size_t prompt_tokens) {
  const auto budget = FitContext(prompt_tokens, "text", parameters, 512);
  if (!budget.ok()) return CheckRefusal(budget.status());
  PHI_CHECK(budget->max_new_tokens >= 1 && prompt_tokens + budget->max_new_tokens <= 512,
            "budget %u",
            budget->max_new_tokens);
  PHI_CHECK(parameters.min_new_tokens <= budget->max_new_tokens,
            "min_new_tokens %u",
            parameters.min_new_tokens);
}

}  // namespace
}  // namespace phi::service

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace phi::service;  // NOLINT(google-build-using-namespace): libFuzzer wants a global
                                 // function
  google::protobuf::SetLogHandler(nullptr);
  const grpc::Slice slice(data, size);
  phi::v1::GenerateRequest request;
  if (const absl::Status parsed = ParseMessage(grpc::ByteBuffer(&slice, 1), request);
      !parsed.ok()) {
    CheckRefusal(parsed);
    return 0;
  }
  if (const absl::Status id = CheckRequestId(request.request_id()); !id.ok()) CheckRefusal(id);
  for (const bool unary : {false, true}) {
    const auto parameters = CheckRequest(request, unary, kLimits);
    if (!parameters.ok()) {
      CheckRefusal(parameters.status());
      continue;
    }
    CheckAccepted(*parameters, unary);
    for (const size_t prompt_tokens :
         {size_t{1}, size_t{255}, size_t{256}, size_t{511}, size_t{512}, size}) {
      if (prompt_tokens > 0) CheckFit(*parameters, prompt_tokens);
    }
  }
  return 0;
}
