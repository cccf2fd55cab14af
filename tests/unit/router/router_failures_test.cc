// What callers see when replicas fail, callers go away, time runs out and the router ends.
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "phi/v1/generation.pb.h"
#include "tests/unit/router/router_fixture.h"

namespace phi::service {
namespace {

class RouterFailures : public RouterFixture {
 protected:
  grpc::health::v1::HealthCheckResponse::ServingStatus Health(const std::string& name) {
    const auto health = grpc::health::v1::Health::NewStub(grpc::CreateChannel(
        "127.0.0.1:" + std::to_string(router_->port()), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(name);
    grpc::health::v1::HealthCheckResponse response;
    return health->Check(&context, request, &response).ok()
               ? response.status()
               : grpc::health::v1::HealthCheckResponse::UNKNOWN;
  }
  double Retries(RetryLabel reason) {
    return metrics_->Get(MetricId::kRouterRetriesTotal, {reason}).Value();
  }
};

constexpr auto kServing = grpc::health::v1::HealthCheckResponse::SERVING;
constexpr auto kNotServing = grpc::health::v1::HealthCheckResponse::NOT_SERVING;

TEST_F(RouterFailures, BeforeTheFirstTokenAnotherReplicaIsTried) {
  Script refuses;
  refuses.status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "socket closed");
  tests::FakeReplica& bad = AddReplica(refuses);
  tests::FakeReplica& good = AddReplica(Says("fine"));
  StartRouter({}, 2);
  for (int i = 0; i < 6; ++i) {
    const StreamResult stream = Stream(Request());
    ASSERT_TRUE(stream.status.ok()) << stream.status.error_message();
    EXPECT_EQ(stream.text(), "fine");
  }
  EXPECT_EQ(good.requests().size(), 6U);
  EXPECT_GT(bad.requests().size(), 0U);
  EXPECT_EQ(Retries(RetryLabel::kUnreachable), static_cast<double>(bad.requests().size()));
  EXPECT_EQ(metrics_->Get(MetricId::kRouterFailoversTotal, {RetryLabel::kUnreachable}).Value(),
            static_cast<double>(bad.requests().size()));
  // The second try is the same request: same seed, same id.
  const auto first = bad.requests()[0];
  const auto all = good.requests();
  const auto second = std::find_if(
      all.begin(), all.end(), [&](const auto& r) { return r.request_id() == first.request_id(); });
  ASSERT_NE(second, all.end());
  EXPECT_EQ(second->parameters().seed(), first.parameters().seed());
}

TEST_F(RouterFailures, OnlyOnceMore) {
  Script refuses;
  refuses.status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "socket closed");
  for (int i = 0; i < 3; ++i) AddReplica(refuses);
  StartRouter({}, 3);
  EXPECT_EQ(Reason(Stream(Request()).status), "REPLICA_LOST");
  size_t num_requests = 0;
  for (const auto& replica : replicas_) num_requests += replica->requests().size();
  EXPECT_EQ(num_requests, 2U);
}

TEST_F(RouterFailures, WhatEveryReplicaWouldAnswerIsNotRetried) {
  Script broken;
  broken.status = grpc::Status(grpc::StatusCode::INTERNAL, "NaN at /secret/path");
  AddReplica(broken);
  AddReplica(broken);
  StartRouter({}, 2);
  const grpc::Status status = Stream(Request()).status;
  EXPECT_EQ(Reason(status), "INTERNAL");
  EXPECT_EQ(status.error_message().find("secret"), std::string::npos);
  EXPECT_EQ(replicas_[0]->requests().size() + replicas_[1]->requests().size(), 1U);
}

TEST_F(RouterFailures, AFinishReasonOfALaterVersionEndsTheCallAndNothingElse) {
  Script unknown = Says("one");
  unknown.finish = static_cast<phi::v1::FinishReason>(99);
  tests::FakeReplica& replica = AddReplica(unknown);
  StartRouter();
  for (int i = 0; i < 2; ++i) EXPECT_EQ(Reason(Stream(Request()).status), "INTERNAL");
  EXPECT_TRUE(Eventually([&] { return replica.num_active() == 0; }));
}

TEST_F(RouterFailures, AfterTheFirstTokenTheStreamEndsAsLost) {
  Script dies = Says("one two three");
  dies.status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "socket closed");
  AddReplica(dies);
  AddReplica(dies);
  StartRouter({}, 2);
  grpc::ClientContext context;
  const StreamResult stream = Stream(Request(), context);
  EXPECT_EQ(Reason(stream.status), "REPLICA_LOST");
  EXPECT_EQ(stream.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(stream.text(), "one two three");
  EXPECT_EQ(
      std::string(context.GetServerTrailingMetadata().find("phi-tokens-emitted")->second.data(), 1),
      std::to_string(Ids("one two three").size()));
  EXPECT_EQ(Retries(RetryLabel::kUnreachable), 0);
}

TEST_F(RouterFailures, KilledReplicaIsLostAndThenBack) {
  Script hangs = Says("one");
  hangs.hang_at_end = true;
  AddReplica(hangs);
  StartRouter();
  const int port = replicas_[0]->port();
  grpc::ClientContext context;
  const auto reader = stub().GenerateStream(&context, Request());
  phi::v1::GenerateStreamResponse message;
  ASSERT_TRUE(reader->Read(&message));
  replicas_.clear();
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(Reason(reader->Finish()), "REPLICA_LOST");
  EXPECT_TRUE(Eventually([&] { return NumInState("lost") == 1; }));
  EXPECT_TRUE(Eventually([&] { return Health("readiness") == kNotServing; }));
  EXPECT_EQ(Health("liveness"), kServing);
  EXPECT_EQ(Reason(Stream(Request()).status), "NO_READY_REPLICA");
  auto status = tests::FakeReplica::ReadyStatus(fingerprint_);
  status.set_epoch(2);
  const Script fine = Says("fine");
  replicas_.push_back(std::make_unique<tests::FakeReplica>(
      status, [fine](const auto&) { return fine; }, port));
  EXPECT_TRUE(Eventually([&] { return Health("readiness") == kServing; }));
  EXPECT_EQ(Stream(Request()).text(), "fine");
}

TEST_F(RouterFailures, OldEpochIsNotDelivered) {
  Script slow;
  slow.tokens.assign(250, Ids("x")[0]);
  slow.delay_per_message = std::chrono::milliseconds(100);
  tests::FakeReplica& replica = AddReplica(slow);
  StartRouter();
  grpc::ClientContext context;
  const auto reader = stub().GenerateStream(&context, Request());
  phi::v1::GenerateStreamResponse message;
  ASSERT_TRUE(reader->Read(&message));
  auto status = tests::FakeReplica::ReadyStatus(fingerprint_);
  status.set_epoch(2);
  replica.SetStatus(status);
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(Reason(reader->Finish()), "REPLICA_LOST");
}

TEST_F(RouterFailures, ReplicasAreFoundByName) {
  AddReplica(Says("fine"));
  by_name_ = true;
  StartRouter();
  EXPECT_EQ(Stream(Request()).text(), "fine");
}

TEST_F(RouterFailures, OtherFingerprintGetsNoCalls) {
  replicas_.push_back(std::make_unique<tests::FakeReplica>(
      tests::FakeReplica::ReadyStatus("another"), [](const auto&) { return Script{}; }));
  StartRouter({}, 0);
  EXPECT_TRUE(Eventually([&] { return NumInState("refused") == 1; }));
  EXPECT_EQ(Reason(Stream(Request()).status), "NO_READY_REPLICA");
  EXPECT_EQ(Health(""), kNotServing);
}

TEST_F(RouterFailures, DrainingReplicaGetsNoNewCalls) {
  tests::FakeReplica& draining = AddReplica(Says("draining"));
  AddReplica(Says("other"));
  StartRouter({}, 2);
  auto status = tests::FakeReplica::ReadyStatus(fingerprint_);
  status.set_draining(true);
  draining.SetStatus(status);
  ASSERT_TRUE(Eventually([&] { return NumInState("draining") == 1; }));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(Stream(Request()).text(), "other");
}

TEST_F(RouterFailures, CallsGoWhereLessIsUnderWay) {
  Script hangs = Says("x");
  hangs.hang_at_end = true;
  AddReplica(hangs);
  AddReplica(hangs);
  StartRouter({}, 2);
  grpc::ClientContext contexts[8];
  std::vector<std::unique_ptr<grpc::ClientReader<phi::v1::GenerateStreamResponse>>> readers;
  for (auto& context : contexts) readers.push_back(stub().GenerateStream(&context, Request()));
  EXPECT_TRUE(Eventually([&] {
    return replicas_[0]->requests().size() + replicas_[1]->requests().size() == readers.size();
  }));
  EXPECT_EQ(replicas_[0]->requests().size(), 4U);
  EXPECT_EQ(replicas_[1]->requests().size(), 4U);
  for (auto& context : contexts) context.TryCancel();
  for (auto& reader : readers)
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(RouterFailures, CancelReachesTheReplica) {
  Script hangs = Says("one");
  hangs.hang_at_end = true;
  tests::FakeReplica& replica = AddReplica(hangs);
  StartRouter();
  grpc::ClientContext context;
  const auto reader = stub().GenerateStream(&context, Request());
  phi::v1::GenerateStreamResponse message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(
      Eventually([&] { return replica.num_cancelled() == 1 && replica.num_active() == 0; }));
  EXPECT_TRUE(Eventually([&] {
    return CallsCounted(MethodLabel::kGenerateStream, absl::StatusCode::kCancelled, std::nullopt) ==
           1;
  }));
}

TEST_F(RouterFailures, DeadlineIsPassedOn) {
  Script hangs = Says("one");
  hangs.hang_at_end = true;
  tests::FakeReplica& replica = AddReplica(hangs);
  StartRouter();
  grpc::ClientContext context;
  const auto start = std::chrono::system_clock::now();
  const auto deadline = start + std::chrono::seconds(2);
  context.set_deadline(deadline);
  auto reader = stub().GenerateStream(&context, Request());
  EXPECT_TRUE(Eventually([&] { return replica.requests().size() == 1; }));
  // What travels is the time left, so that the way there is added.
  const auto way = std::chrono::system_clock::now() - start;
  const auto difference = replica.last_deadline() - deadline;
  EXPECT_GT(difference, -std::chrono::milliseconds(500));
  EXPECT_LT(difference, std::chrono::milliseconds(500) + way);
  phi::v1::GenerateStreamResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(Eventually([&] { return replica.num_active() == 0; }));
}

TEST_F(RouterFailures, TimeLimitEndsAReplicaThatDoesNot) {
  Script hangs = Says("one");
  hangs.hang_at_end = true;
  AddReplica(hangs);
  StartRouter();
  auto request = Request();
  request.mutable_parameters()->mutable_time_limit()->set_seconds(2);
  const StreamResult stream = Stream(request);
  ASSERT_TRUE(stream.status.ok()) << stream.status.error_message();
  EXPECT_EQ(stream.text(), "one");
  EXPECT_EQ(stream.messages.back().finish().reason(), phi::v1::FINISH_REASON_TIME_LIMIT);
}

TEST_F(RouterFailures, TimeLimitBeforeTheFirstToken) {
  Script slow = Says("one");
  slow.delay_before_first = std::chrono::seconds(30);
  AddReplica(slow);
  StartRouter();
  auto request = Request();
  request.mutable_parameters()->mutable_time_limit()->set_nanos(100'000'000);
  EXPECT_EQ(Reason(Stream(request).status), "DEADLINE_IN_QUEUE");
}

TEST_F(RouterFailures, DrainLetsRunningCallsEndAndSendsNewOnesElsewhere) {
  Script slow = Says("one two three four");
  slow.delay_per_message = std::chrono::milliseconds(200);
  AddReplica(slow);
  StartRouter();
  grpc::ClientContext context;
  const auto reader = stub().GenerateStream(&context, Request());
  phi::v1::GenerateStreamResponse message;
  ASSERT_TRUE(reader->Read(&message));
  std::string text = message.text();
  std::jthread drain([this] { router_->Drain(absl::Seconds(30)); });
  ASSERT_TRUE(Eventually([&] { return !router_->ready(); }));
  // The connection takes no more calls, and there is no other one to be had here.
  ASSERT_TRUE(Eventually([&] {
    const std::string reason = Reason(Stream(Request()).status);
    return reason != "DRAINING";
  }));
  EXPECT_EQ(Stream(Request()).status.error_code(), grpc::StatusCode::UNAVAILABLE);
  while (reader->Read(&message)) text += message.text();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(text, "one two three four");
}

TEST_F(RouterFailures, DrainLetsATextBeTokenized) {
  AddReplica(Says("one"));
  StartRouter();
  phi::v1::TokenizeRequest request;
  for (int i = 0; i < 20'000; ++i) request.mutable_text()->append("x = 12345\n");
  std::atomic<int> num_over = 0;
  std::vector<grpc::StatusCode> codes(24);
  std::vector<std::jthread> callers;
  for (grpc::StatusCode& code : codes) {
    callers.emplace_back([&] {
      grpc::ClientContext context;
      phi::v1::TokenizeResponse response;
      code = stub().Tokenize(&context, request, &response).error_code();
      ++num_over;
    });
  }
  while (num_over == 0) std::this_thread::yield();  // the others wait, or are at it
  router_->Drain(absl::Seconds(60));
  callers.clear();
  // What came too late, to a connection that takes no more, is UNAVAILABLE and was never a call
  // here.
  EXPECT_EQ(CallsCounted(MethodLabel::kTokenize, absl::StatusCode::kCancelled, std::nullopt), 0);
  EXPECT_GE(CallsCounted(MethodLabel::kTokenize, absl::StatusCode::kOk, std::nullopt), 1);
  EXPECT_EQ(CallsCounted(MethodLabel::kTokenize, absl::StatusCode::kOk, std::nullopt),
            std::count(codes.begin(), codes.end(), grpc::StatusCode::OK));
}

TEST_F(RouterFailures, DrainTimeoutEndsWhatDoesNot) {
  Script hangs = Says("one");
  hangs.hang_at_end = true;
  AddReplica(hangs);
  StartRouter();
  grpc::ClientContext context;
  const auto reader = stub().GenerateStream(&context, Request());
  phi::v1::GenerateStreamResponse message;
  ASSERT_TRUE(reader->Read(&message));
  std::jthread drain([this] { router_->Drain(absl::Milliseconds(100)); });
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(Reason(reader->Finish()), "DRAIN_TIMEOUT");
}

}  // namespace
}  // namespace phi::service
