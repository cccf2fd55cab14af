#include "service/router/request_limits.h"

#include <gtest/gtest.h>

#include "service/api/error.h"

namespace phi::service {
namespace {

const RequestLimits kLimits{.model = {.context_tokens = 2048, .vocabulary_tokens = 1000},
                            .model_name = "phi-nano"};

struct Refusal {
  std::string reason, field;
  friend bool operator==(const Refusal&, const Refusal&) = default;
  friend void PrintTo(const Refusal& refusal, std::ostream* out) {
    *out << refusal.reason << " " << refusal.field;
  }
};

Refusal RefusalOf(const absl::Status& status) {
  if (status.ok()) return {};
  const auto details = GetErrorDetails(status);
  if (!details.has_value()) return {"no details", ""};
  return {std::string(ErrorReasonInfo(details->reason).name), details->field};
}

phi::v1::GenerateRequest TextRequest() {
  phi::v1::GenerateRequest request;
  request.set_text("def f():");
  return request;
}

Refusal CheckStream(const phi::v1::GenerateRequest& request) {
  return RefusalOf(CheckRequest(request, /*unary=*/false, kLimits).status());
}

TEST(RequestIdTest, PrintableAndBounded) {
  EXPECT_TRUE(CheckRequestId("").ok());
  EXPECT_TRUE(CheckRequestId("a b~!").ok());
  EXPECT_TRUE(CheckRequestId(std::string(128, 'x')).ok());
  const Refusal refused{"INVALID_REQUEST_ID", "request_id"};
  EXPECT_EQ(RefusalOf(CheckRequestId(std::string(129, 'x'))), refused);
  for (const char* bad : {"a\nb", "\x7f", "caf\xc3\xa9", "\t"})
    EXPECT_EQ(RefusalOf(CheckRequestId(bad)), refused);
}

TEST(CheckRequestTest, Model) {
  auto request = TextRequest();
  request.set_model("phi-nano");
  EXPECT_EQ(CheckStream(request), Refusal{});
  request.set_model("gpt");
  EXPECT_EQ(CheckStream(request), (Refusal{"MODEL_NOT_FOUND", "model"}));
}

TEST(CheckRequestTest, EmptyPrompts) {
  EXPECT_EQ(CheckStream({}), (Refusal{"EMPTY_PROMPT", "text"}));
  phi::v1::GenerateRequest text;
  text.set_text("");
  EXPECT_EQ(CheckStream(text), (Refusal{"EMPTY_PROMPT", "text"}));
  phi::v1::GenerateRequest ids;
  ids.mutable_token_ids();
  EXPECT_EQ(CheckStream(ids), (Refusal{"EMPTY_PROMPT", "token_ids"}));
}

TEST(CheckRequestTest, TokenIds) {
  phi::v1::GenerateRequest request;
  request.mutable_token_ids()->add_ids(999);
  EXPECT_EQ(CheckStream(request), Refusal{});
  request.mutable_token_ids()->add_ids(1000);
  EXPECT_EQ(CheckStream(request), (Refusal{"TOKEN_ID_OUT_OF_RANGE", "token_ids"}));
}

TEST(CheckRequestTest, TooManyTokenIdsAreRefusedUnlessTruncated) {
  phi::v1::GenerateRequest request;
  for (int i = 0; i < 2047; ++i) request.mutable_token_ids()->add_ids(1);
  EXPECT_EQ(CheckStream(request), Refusal{});
  request.mutable_token_ids()->add_ids(1);
  EXPECT_EQ(CheckStream(request), (Refusal{"PROMPT_TOO_LONG", "token_ids"}));
  request.mutable_parameters()->set_truncate_prompt(10);
  EXPECT_EQ(CheckStream(request), Refusal{});
}

TEST(CheckRequestTest, ParametersAreChecked) {
  auto request = TextRequest();
  request.mutable_parameters()->set_top_p(1.5F);
  EXPECT_EQ(CheckStream(request), (Refusal{"FIELD_OUT_OF_RANGE", "parameters.top_p"}));
}

// 2048 * (15 + 1) = 32768, the most that one unary answer may hold.
TEST(CheckRequestTest, UnaryAnswersAreBounded) {
  auto request = TextRequest();
  request.mutable_parameters()->set_max_new_tokens(2048);
  request.mutable_parameters()->set_logprobs(15);
  EXPECT_TRUE(CheckRequest(request, /*unary=*/true, kLimits).ok());
  request.mutable_parameters()->set_logprobs(16);
  EXPECT_EQ(RefusalOf(CheckRequest(request, /*unary=*/true, kLimits).status()),
            (Refusal{"RESPONSE_TOO_LARGE", "parameters.max_new_tokens"}));
  EXPECT_EQ(CheckStream(request), Refusal{});
}

// 16 * 256 * 8 = 32768, the default length and no log-probabilities counting as themselves.
TEST(CheckRequestTest, Row56UnaryAnswersOfSeveralSamplesAreBounded) {
  auto request = TextRequest();
  request.mutable_parameters()->set_n(16);
  const auto refused = Refusal{"RESPONSE_TOO_LARGE", "parameters.max_new_tokens"};
  const auto unary = [&] {
    return RefusalOf(CheckRequest(request, /*unary=*/true, kLimits).status());
  };
  EXPECT_EQ(unary(), Refusal{});
  request.mutable_parameters()->set_logprobs(7);
  EXPECT_EQ(unary(), Refusal{});
  request.mutable_parameters()->set_logprobs(8);
  EXPECT_EQ(unary(), refused);
  request.mutable_parameters()->clear_logprobs();
  request.mutable_parameters()->set_max_new_tokens(2048);
  EXPECT_EQ(unary(), Refusal{});
  request.mutable_parameters()->set_logprobs(1);
  EXPECT_EQ(unary(), refused);
  EXPECT_EQ(CheckStream(request), Refusal{});
}

TEST(FitContextTest, DefaultIsWhatTheContextLeaves) {
  const auto plenty = FitContext(100, "text", {}, 2048);
  ASSERT_TRUE(plenty.ok());
  EXPECT_EQ(plenty->max_new_tokens, 256U);
  EXPECT_FALSE(plenty->bounded_by_context);
  const auto exact = FitContext(2048 - 256, "text", {}, 2048);
  ASSERT_TRUE(exact.ok());
  EXPECT_EQ(exact->max_new_tokens, 256U);
  EXPECT_FALSE(exact->bounded_by_context);
  const auto little = FitContext(2048 - 255, "text", {}, 2048);
  ASSERT_TRUE(little.ok());
  EXPECT_EQ(little->max_new_tokens, 255U);
  EXPECT_TRUE(little->bounded_by_context);
}

TEST(FitContextTest, ExplicitCountMustFit) {
  GenerationParameters parameters;
  parameters.max_new_tokens = 48;
  EXPECT_TRUE(FitContext(2000, "text", parameters, 2048).ok());
  parameters.max_new_tokens = 49;
  const absl::Status refused = FitContext(2000, "text", parameters, 2048).status();
  EXPECT_EQ(RefusalOf(refused), (Refusal{"CONTEXT_EXCEEDED", "parameters.max_new_tokens"}));
  for (const char* count : {"2000", "49", "2048"}) {
    EXPECT_NE(std::string(refused.message()).find(count), std::string::npos) << refused.message();
  }
}

TEST(FitContextTest, PromptMustLeaveRoom) {
  EXPECT_TRUE(FitContext(2047, "text", {}, 2048).ok());
  EXPECT_EQ(RefusalOf(FitContext(2048, "token_ids", {}, 2048).status()),
            (Refusal{"PROMPT_TOO_LONG", "token_ids"}));
}

TEST(FitContextTest, MinNewTokensAgainstTheDefault) {
  GenerationParameters parameters;
  parameters.min_new_tokens = 256;
  EXPECT_TRUE(FitContext(10, "text", parameters, 2048).ok());
  parameters.min_new_tokens = 257;
  EXPECT_EQ(RefusalOf(FitContext(10, "text", parameters, 2048).status()),
            (Refusal{"FIELD_OUT_OF_RANGE", "parameters.min_new_tokens"}));
}

}  // namespace
}  // namespace phi::service
