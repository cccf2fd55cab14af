// Calls that end well, and everything that they carry.
#include <gmock/gmock.h>

#include "phi/v1/generation.pb.h"
#include "tests/unit/router/router_fixture.h"

namespace phi::service {
namespace {

constexpr char kAnswer[] = "\n    # naïve 🙂\n    return 1\n\nprint(f())\n";

class RouterCalls : public RouterFixture {};

TEST_F(RouterCalls, UnaryIsTheJoinedStream) {
  AddReplica(Says(kAnswer));
  StartRouter();
  auto request = Request();
  request.mutable_parameters()->set_logprobs(2);
  request.mutable_parameters()->add_stop("print");
  const StreamResult stream = Stream(request);
  ASSERT_TRUE(stream.status.ok()) << stream.status.error_message();
  grpc::ClientContext context;
  phi::v1::GenerateResponse unary;
  ASSERT_TRUE(stub().Generate(&context, request, &unary).ok());

  ASSERT_EQ(unary.completions_size(), 1);
  const phi::v1::Completion& completion = unary.completions(0);
  EXPECT_EQ(completion.text(), "\n    # naïve 🙂\n    return 1\n\n");
  EXPECT_EQ(stream.text(), completion.text());
  EXPECT_THAT(stream.token_ids(), ::testing::ElementsAreArray(completion.token_ids()));
  const auto& last = stream.messages.back();
  EXPECT_EQ(last.finish().SerializeAsString(), completion.finish().SerializeAsString());
  EXPECT_EQ(completion.finish().reason(), phi::v1::FINISH_REASON_STOP_STRING);
  EXPECT_EQ(completion.finish().stop(), "print");
  EXPECT_EQ(completion.logprobs_size(), completion.token_ids_size());
  EXPECT_EQ(completion.logprobs(0).top_size(), 2);
  EXPECT_EQ(unary.summary().usage().generated_tokens(), completion.finish().generated_tokens());
  EXPECT_EQ(unary.summary().usage().prompt_tokens(), Ids("def f():").size());
}

TEST_F(RouterCalls, StreamHasHeaderFirstAndSummaryLast) {
  AddReplica(Says(kAnswer));
  StartRouter();
  auto request = Request();
  request.set_request_id("my-id");
  request.mutable_parameters()->set_seed(42);
  grpc::ClientContext context;
  const StreamResult stream = Stream(request, context);
  ASSERT_TRUE(stream.status.ok());
  EXPECT_EQ(stream.text(), kAnswer);
  for (size_t i = 0; i < stream.messages.size(); ++i) {
    EXPECT_EQ(stream.messages[i].has_header(), i == 0);
    EXPECT_EQ(stream.messages[i].has_summary(), i + 1 == stream.messages.size());
    EXPECT_EQ(stream.messages[i].has_finish(), i + 1 == stream.messages.size());
  }
  EXPECT_EQ(stream.messages[0].header().request_id(), "my-id");
  EXPECT_EQ(stream.messages[0].header().seed(), 42U);
  EXPECT_EQ(context.GetServerInitialMetadata().find("phi-request-id")->second, "my-id");
  const auto& timings = stream.messages.back().summary().timings();
  EXPECT_EQ(timings.queue().nanos(), 1'000'000);
  EXPECT_EQ(timings.prefill().nanos(), 2'000'000);
  EXPECT_TRUE(timings.has_time_to_first_token());
  EXPECT_TRUE(timings.has_total());
}

TEST_F(RouterCalls, FirstMessageComesWithTheFirstToken) {
  Script script = Says("abcabc");
  script.delay_per_message = std::chrono::seconds(30);
  AddReplica(script);
  StartRouter();
  // Everything may still become the stop, so there is no text to send yet.
  auto request = Request();
  request.mutable_parameters()->add_stop("abcabcabc");
  grpc::ClientContext context;
  const auto reader = stub().GenerateStream(&context, request);
  phi::v1::GenerateStreamResponse first;
  ASSERT_TRUE(reader->Read(&first));
  EXPECT_TRUE(first.has_header());
  EXPECT_EQ(first.text(), "");
  EXPECT_EQ(first.token_ids_size(), 0);
  context.TryCancel();
  (void)reader->Finish();
}

TEST_F(RouterCalls, ReplicaIsAskedForExactlyThis) {
  tests::FakeReplica& replica = AddReplica(Says("x"));
  StartRouter();
  auto request = Request("a = b");
  request.mutable_parameters()->set_temperature(0.5F);
  request.mutable_parameters()->add_stop("zzz");
  request.mutable_parameters()->set_include_stop(true);
  request.mutable_parameters()->set_truncate_prompt(2);
  request.mutable_parameters()->mutable_time_limit()->set_seconds(20);
  grpc::ClientContext context;
  phi::v1::GenerateResponse response;
  ASSERT_TRUE(stub().Generate(&context, request, &response).ok());
  ASSERT_EQ(replica.requests().size(), 1U);
  const auto sent = replica.requests()[0];
  auto ids = Ids("a = b");
  ids.erase(ids.begin(), ids.end() - 2);
  EXPECT_THAT(sent.prompt_token_ids(), ::testing::ElementsAreArray(ids));
  EXPECT_EQ(sent.parameters().temperature(), 0.5F);
  EXPECT_EQ(sent.parameters().max_new_tokens(), 256U);
  EXPECT_EQ(sent.parameters().seed(), response.header().seed());
  EXPECT_EQ(sent.request_id(), response.header().request_id());
  EXPECT_TRUE(sent.parameters().stop().empty());
  EXPECT_FALSE(sent.parameters().has_include_stop());
  EXPECT_FALSE(sent.parameters().has_truncate_prompt());
  EXPECT_GT(sent.parameters().time_limit().seconds(), 10);
  EXPECT_LT(sent.parameters().time_limit().seconds(), 20);
  EXPECT_NE(sent.caller(), "");
}

TEST_F(RouterCalls, TokenIdsArePassedOnAsTheyAre) {
  tests::FakeReplica& replica = AddReplica(Says("x"));
  StartRouter();
  phi::v1::GenerateRequest request;
  for (const uint32_t id : {5U, 6U, 1983U}) request.mutable_token_ids()->add_ids(id);
  EXPECT_TRUE(Stream(request).status.ok());
  EXPECT_THAT(replica.requests()[0].prompt_token_ids(), ::testing::ElementsAre(5, 6, 1983));
}

TEST_F(RouterCalls, StopConditionsSeeThePromptAlsoAsTokens) {
  AddReplica(Says("\n    return 1\nx = 2\n"));
  StartRouter();
  phi::v1::GenerateRequest request;
  for (const uint32_t id : Ids("def f():")) request.mutable_token_ids()->add_ids(id);
  request.mutable_parameters()->add_stop_conditions(phi::v1::STOP_CONDITION_DEDENT);
  const StreamResult stream = Stream(request);
  ASSERT_TRUE(stream.status.ok()) << stream.status.error_message();
  EXPECT_EQ(stream.text(), "\n    return 1\n");
  EXPECT_EQ(stream.messages.back().finish().condition(), phi::v1::STOP_CONDITION_DEDENT);
}

TEST_F(RouterCalls, StopFreesTheReplica) {
  Script script = Says("one two three four five");
  script.hang_at_end = true;
  tests::FakeReplica& replica = AddReplica(script);
  StartRouter();
  auto request = Request();
  request.mutable_parameters()->add_stop("two");
  EXPECT_EQ(Stream(request).text(), "one ");
  EXPECT_TRUE(Eventually([&] { return replica.num_active() == 0; }));
  EXPECT_EQ(replica.num_samples_ended(), 1);
  EXPECT_EQ(replica.num_cancelled(), 0) << "an alert on cancels would ring";
}

TEST_F(RouterCalls, ReplicaThatMissesAStopIsCutAtTheDeadlineOrTheRoutersEnd) {
  Script deaf = Says("one two three");
  deaf.hang_at_end = true;
  deaf.deaf = true;
  tests::FakeReplica& replica = AddReplica(deaf);
  StartRouter();
  auto request = Request();
  request.mutable_parameters()->add_stop("two");
  request.mutable_parameters()->mutable_time_limit()->set_seconds(2);
  EXPECT_EQ(Stream(request).text(), "one ");
  EXPECT_TRUE(Eventually([&] { return replica.num_active() == 0; }));
  EXPECT_EQ(replica.num_cancelled(), 1);
  request.mutable_parameters()->mutable_time_limit()->set_seconds(300);
  EXPECT_EQ(Stream(request).text(), "one ");
  EXPECT_EQ(replica.num_active(), 1) << "the answer does not wait for the replica";
  router_.reset();  // does not wait for the deadline
  EXPECT_TRUE(Eventually([&] { return replica.num_cancelled() == 2; }));
}

TEST_F(RouterCalls, TokenizeAndDetokenize) {
  AddReplica(Says("x"));
  StartRouter();
  const std::string text = "def f(x):\n    return 'é🙂'\n";
  phi::v1::TokenizeRequest tokenize;
  tokenize.set_text(text);
  phi::v1::TokenizeResponse tokens;
  grpc::ClientContext first;
  ASSERT_TRUE(stub().Tokenize(&first, tokenize, &tokens).ok());
  EXPECT_THAT(tokens.token_ids(), ::testing::ElementsAreArray(Ids(text)));
  std::string pieces;
  for (const std::string& piece : tokens.pieces()) pieces += piece;
  EXPECT_EQ(pieces, text);
  EXPECT_EQ(first.GetServerInitialMetadata().count("phi-request-id"), 1U);
  phi::v1::DetokenizeRequest detokenize;
  *detokenize.mutable_token_ids() = tokens.token_ids();
  phi::v1::DetokenizeResponse back;
  grpc::ClientContext second;
  ASSERT_TRUE(stub().Detokenize(&second, detokenize, &back).ok());
  EXPECT_EQ(back.text(), text);
  detokenize.add_token_ids(tokenizer_->vocab_size());
  grpc::ClientContext third;
  EXPECT_EQ(Reason(stub().Detokenize(&third, detokenize, &back)),
            "TOKEN_ID_OUT_OF_RANGE token_ids");
}

TEST_F(RouterCalls, ModelInfoPublishesLimitsDefaultsAndReplicas) {
  AddReplica(Says("x"));
  StartRouter();
  grpc::ClientContext context;
  phi::v1::GetModelInfoResponse info;
  ASSERT_TRUE(stub().GetModelInfo(&context, {}, &info).ok());
  EXPECT_EQ(info.model_name(), "phi-nano");
  EXPECT_EQ(info.fingerprint(), fingerprint_);
  EXPECT_EQ(info.dtype(), "float32");
  EXPECT_EQ(info.vocabulary_tokens(), tokenizer_->vocab_size());
  EXPECT_EQ(info.defaults().max_new_tokens(), 256U);
  EXPECT_EQ(static_cast<size_t>(info.limits_size()), FieldLimits({}).size());
  ASSERT_EQ(info.replicas_size(), 1);
  EXPECT_EQ(info.replicas(0).address(), replicas_[0]->address());
  EXPECT_EQ(info.replicas(0).state(), "ready");
}

}  // namespace
}  // namespace phi::service
