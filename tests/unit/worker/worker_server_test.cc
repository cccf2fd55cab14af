#include "service/worker/worker_server.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "phi/worker/v1/worker.grpc.pb.h"
#include "service/api/error.h"
#include "service/api/grpc_status.h"
#include "service/worker/token_stream_call.h"
#include "tests/unit/worker/fake_rank.h"

namespace phi::service {
namespace {

namespace proto = phi::worker::v1;
using std::chrono::milliseconds;
using TokenStream =
    grpc::ClientReaderWriterInterface<proto::GenerateRequest, proto::GenerateResponse>;

constexpr uint32_t kVocabulary = 211;
constexpr uint32_t kEos = 210;

SchedulerLimits Limits() {
  return {.context_tokens = 400,
          .vocabulary_tokens = kVocabulary,
          .eos_token_id = kEos,
          .max_sequences = 4,
          .max_step_tokens = 64,
          .num_kv_blocks = 100,
          .max_queued_requests = 4,
          .max_queued_tokens = 1000};
}

proto::StartGeneration Request(uint32_t max_new_tokens) {
  proto::StartGeneration request;
  for (uint32_t i = 1; i <= 9; ++i) request.add_prompt_token_ids(i);
  request.mutable_parameters()->set_max_new_tokens(max_new_tokens);
  request.mutable_parameters()->set_ignore_eos(true);
  return request;
}

struct Answer {
  std::vector<uint32_t> tokens;
  std::vector<proto::GenerateResponse> messages;
  absl::Status status;
  ErrorDetails details;
};

class WorkerServerTest : public testing::Test {
 protected:
  WorkerServerTest()
      : page_(*MetricPage::Create(1)),
        metrics_(*page_),
        rank_({.vocab_size = kVocabulary,
               .max_positions = 400,
               .num_blocks = 100,
               .max_sequences = 4,
               .max_step_tokens = 64},
              kVocabulary),
        loop_(
            {.limits = Limits()},
            &rank_,
            [](const shard::StepPlan&) { return absl::OkStatus(); },
            &metrics_) {
    loop_.Start();
    options_ = {.listen = "127.0.0.1:0",
                .identity = {.epoch = 7,
                             .fingerprint = "abc",
                             .world_size = 2,
                             .dtype = "float32",
                             .isa = "avx2"},
                .limits = Limits()};
    auto server = WorkerServer::Start(options_, &loop_);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    address_ = absl::StrFormat("127.0.0.1:%d", server_->port());
    channel_ = grpc::CreateChannel(address_, grpc::InsecureChannelCredentials());
    stub_ = proto::Worker::NewStub(channel_);
  }

  // The stream of one call whose start is written.
  std::unique_ptr<TokenStream> Start(const proto::StartGeneration& start,
                                     grpc::ClientContext& context) {
    auto stream = stub_->Generate(&context);
    proto::GenerateRequest request;
    *request.mutable_start() = start;
    stream->Write(request);
    return stream;
  }
  Answer Generate(const proto::StartGeneration& request, grpc::ClientContext* context = nullptr) {
    grpc::ClientContext own;
    auto stream = Start(request, context != nullptr ? *context : own);
    Answer answer;
    proto::GenerateResponse message;
    while (stream->Read(&message)) {
      for (const auto& token : message.tokens()) answer.tokens.push_back(token.token_id());
      answer.messages.push_back(message);
    }
    answer.status = FromGrpcStatus(stream->Finish());
    answer.details = GetErrorDetails(answer.status).value_or(ErrorDetails{});
    return answer;
  }
  std::string Health(const std::string& name) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(name);
    grpc::health::v1::HealthCheckResponse response;
    const grpc::Status status =
        grpc::health::v1::Health::NewStub(channel_)->Check(&context, request, &response);
    if (!status.ok()) return status.error_message();
    return grpc::health::v1::HealthCheckResponse::ServingStatus_Name(response.status());
  }
  bool WaitUntilIdle() {
    for (int i = 0; i < 1000; ++i) {
      const EngineLoad load = loop_.load();
      if (load.occupancy.running_requests == 0 && load.occupancy.waiting_requests == 0 &&
          load.kv.owned == 0)
        return true;
      std::this_thread::sleep_for(milliseconds(5));
    }
    return false;
  }

  std::unique_ptr<MetricPage> page_;
  LeaderMetrics metrics_;
  FakeRank rank_;
  StepLoop loop_;
  WorkerServerOptions options_;
  std::unique_ptr<WorkerServer> server_;
  std::string address_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<proto::Worker::Stub> stub_;
};

TEST_F(WorkerServerTest, StreamsTheModelsAnswer) {
  const Answer answer = Generate(Request(50));
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  std::vector<uint32_t> context = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  for (uint32_t token : answer.tokens) {
    EXPECT_EQ(token, FakeModel::NextToken(context, kVocabulary));
    context.push_back(token);
  }
  EXPECT_EQ(answer.tokens.size(), 50u);
  EXPECT_EQ(answer.messages.back().finish_reason(), phi::v1::FINISH_REASON_MAX_NEW_TOKENS);
  EXPECT_GT(answer.messages.back().summary().decode().nanos(), 0);
  const proto::Summary& first = answer.messages.front().summary();
  EXPECT_TRUE(first.has_queue());
  EXPECT_GT(first.prefill().nanos(), 0);
  EXPECT_FALSE(answer.messages.front().tokens(0).has_logprob());
}

TEST_F(WorkerServerTest, DefaultLengthIsWhatTheContextLeaves) {
  proto::StartGeneration request = Request(1);
  request.mutable_parameters()->clear_max_new_tokens();
  EXPECT_EQ(Generate(request).tokens.size(), 256u);
  for (int i = 0; i < 300; ++i) request.add_prompt_token_ids(3);
  const Answer answer = Generate(request);
  EXPECT_EQ(answer.tokens.size(), 400u - 309u);
  EXPECT_EQ(answer.messages.back().finish_reason(), phi::v1::FINISH_REASON_CONTEXT_LENGTH);
}

TEST_F(WorkerServerTest, SlowReaderDelaysNobodyAndLosesNothing) {
  grpc::ClientContext context;
  auto slow = Start(Request(300), context);
  EXPECT_EQ(Generate(Request(300)).tokens.size(), 300u);
  ASSERT_TRUE(WaitUntilIdle()) << "the slow reader's request ended without being read";
  std::vector<uint32_t> tokens;
  proto::GenerateResponse message;
  while (slow->Read(&message)) {
    for (const auto& token : message.tokens()) tokens.push_back(token.token_id());
  }
  EXPECT_TRUE(slow->Finish().ok());
  EXPECT_EQ(tokens.size(), 300u);
}

TEST_F(WorkerServerTest, SamplesEndOneByOneAndOneAtTheRoutersWord) {
  rank_.step_us = 20'000;
  proto::StartGeneration request = Request(300);
  request.mutable_parameters()->set_n(3);
  request.mutable_parameters()->set_temperature(1);
  request.mutable_parameters()->set_seed(5);
  request.mutable_parameters()->set_logprobs(0);
  grpc::ClientContext context;
  auto stream = Start(request, context);
  std::vector<std::vector<uint32_t>> tokens(3);
  std::vector<int> ends(3);
  bool asked = false;
  proto::GenerateResponse message;
  while (stream->Read(&message)) {
    ASSERT_LT(message.index(), 3u);
    EXPECT_EQ(ends[message.index()], 0) << "a message after the sample's last";
    for (const auto& token : message.tokens()) {
      tokens[message.index()].push_back(token.token_id());
      EXPECT_TRUE(token.has_logprob());
    }
    ends[message.index()] += message.finish_reason() == phi::v1::FINISH_REASON_MAX_NEW_TOKENS;
    if (asked && loop_.load().occupancy.running_sequences == 2) rank_.step_us = 200;
    if (asked || tokens[1].size() < 5) continue;
    proto::GenerateRequest end;
    end.mutable_end_sample()->set_index(1);
    asked = stream->Write(end);
  }
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_TRUE(asked);
  EXPECT_EQ(tokens[0].size(), 300u);
  EXPECT_LT(tokens[1].size(), 300u);
  EXPECT_EQ(tokens[2].size(), 300u);
  EXPECT_EQ(ends, (std::vector<int>{1, 0, 1}));
  EXPECT_TRUE(message.summary().has_decode());
  EXPECT_TRUE(WaitUntilIdle());
}

TEST_F(WorkerServerTest, TheEndOfEverySampleEndsTheCallWell) {
  rank_.step_us = 20'000;
  proto::StartGeneration request = Request(390);
  request.mutable_parameters()->set_n(2);
  grpc::ClientContext context;
  auto stream = Start(request, context);
  std::set<uint32_t> ended;
  proto::GenerateResponse message;
  while (stream->Read(&message)) {
    EXPECT_EQ(message.finish_reason(), phi::v1::FINISH_REASON_UNSPECIFIED);
    if (!ended.insert(message.index()).second) continue;
    proto::GenerateRequest end;
    end.mutable_end_sample()->set_index(message.index());
    stream->Write(end);
  }
  EXPECT_EQ(ended.size(), 2u);
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_TRUE(WaitUntilIdle());
}

TEST_F(WorkerServerTest, ASampleIsEndedOnceAndIsOne) {
  rank_.step_us = 20'000;
  for (const uint32_t index : {0u, 2u}) {  // twice, and one too many
    proto::StartGeneration request = Request(390);
    request.mutable_parameters()->set_n(2);
    grpc::ClientContext context;
    auto stream = Start(request, context);
    proto::GenerateRequest end;
    end.mutable_end_sample()->set_index(index);
    stream->Write(end);
    stream->Write(end);
    proto::GenerateResponse message;
    while (stream->Read(&message)) {
    }
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(WaitUntilIdle());
}

TEST_F(WorkerServerTest, RefusesByFieldAndReason) {
  const auto refused = [&](auto change) {
    proto::StartGeneration request = Request(5);
    change(request);
    const Answer answer = Generate(request);
    EXPECT_TRUE(absl::IsInvalidArgument(answer.status)) << answer.status;
    return std::string(ErrorReasonInfo(answer.details.reason).name) + " " + answer.details.field;
  };
  EXPECT_EQ(refused([](auto& r) { r.mutable_parameters()->add_stop("x"); }),
            "UNSUPPORTED_FIELD parameters.stop");
  EXPECT_EQ(refused([](auto& r) {
              r.mutable_parameters()->add_stop_conditions(phi::v1::STOP_CONDITION_DEDENT);
            }),
            "UNSUPPORTED_FIELD parameters.stop_conditions");
  EXPECT_EQ(refused([](auto& r) { r.mutable_parameters()->set_truncate_prompt(3); }),
            "UNSUPPORTED_FIELD parameters.truncate_prompt");
  EXPECT_EQ(refused([](auto& r) { r.mutable_parameters()->set_top_p(2); }),
            "FIELD_OUT_OF_RANGE parameters.top_p");
  EXPECT_EQ(refused([](auto& r) { r.mutable_parameters()->set_n(17); }),
            "FIELD_OUT_OF_RANGE parameters.n");
  EXPECT_EQ(refused([](auto& r) { r.mutable_parameters()->set_repetition_penalty(0); }),
            "FIELD_OUT_OF_RANGE parameters.repetition_penalty");
  EXPECT_EQ(refused([](auto& r) { (*r.mutable_parameters()->mutable_logit_bias())[kVocabulary]; }),
            "TOKEN_ID_OUT_OF_RANGE parameters.logit_bias");
  EXPECT_EQ(refused([](auto& r) { r.mutable_parameters()->set_temperature(1); }),
            "FIELD_OUT_OF_RANGE parameters.seed");
  EXPECT_EQ(refused([](auto& r) { r.mutable_parameters()->set_max_new_tokens(392); }),
            "CONTEXT_EXCEEDED parameters.max_new_tokens");
  EXPECT_EQ(refused([](auto& r) { r.clear_prompt_token_ids(); }), "EMPTY_PROMPT ");
  EXPECT_EQ(refused([](auto& r) { r.add_prompt_token_ids(kVocabulary); }),
            "TOKEN_ID_OUT_OF_RANGE prompt");
  EXPECT_EQ(refused([](auto& r) {
              for (int i = 0; i < 400; ++i) r.add_prompt_token_ids(1);
            }),
            "PROMPT_TOO_LONG ");
  EXPECT_TRUE(WaitUntilIdle());
}

TEST_F(WorkerServerTest, FullQueueIsRefusedWithRetryInfo) {
  rank_.step_us = 20'000;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<TokenStream>> streams;
  for (int i = 0; i < 8; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    proto::StartGeneration request = Request(300);
    request.set_caller(std::to_string(i));  // one alone may not fill the queue
    streams.push_back(Start(request, *contexts.back()));
  }
  const auto full = [this] {
    const Occupancy occupancy = loop_.load().occupancy;
    return occupancy.running_requests == 4 && occupancy.waiting_requests == 4;
  };
  while (!full()) std::this_thread::sleep_for(milliseconds(1));
  const Answer answer = Generate(Request(1));
  EXPECT_EQ(answer.details.reason, ErrorReason::kQueueFull);
  EXPECT_TRUE(answer.details.retry_after.has_value());
  for (auto& context : contexts) context->TryCancel();
  for (auto& stream : streams)
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(WaitUntilIdle());
}

TEST_F(WorkerServerTest, DeadlineLeavesTimeForTheTextSoFar) {
  rank_.step_us = 500'000;  // the margin is two of them, and one may still start in it
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + milliseconds(6000));
  const Answer answer = Generate(Request(390), &context);
  EXPECT_TRUE(answer.status.ok()) << answer.status;
  ASSERT_FALSE(answer.messages.empty());
  EXPECT_EQ(answer.messages.back().finish_reason(), phi::v1::FINISH_REASON_TIME_LIMIT);
  EXPECT_GT(answer.tokens.size(), 5u);
}

TEST_F(WorkerServerTest, TimeLimitEndsTheAnswer) {
  rank_.step_us = 20'000;
  proto::StartGeneration request = Request(390);
  request.mutable_parameters()->mutable_time_limit()->set_seconds(2);
  const Answer answer = Generate(request);
  EXPECT_TRUE(answer.status.ok()) << answer.status;
  ASSERT_FALSE(answer.messages.empty());
  EXPECT_EQ(answer.messages.back().finish_reason(), phi::v1::FINISH_REASON_TIME_LIMIT);
}

TEST_F(WorkerServerTest, CancelFreesTheBlocks) {
  rank_.step_us = 20'000;
  grpc::ClientContext context;
  auto stream = Start(Request(390), context);
  proto::GenerateResponse message;
  ASSERT_TRUE(stream->Read(&message));
  context.TryCancel();
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(WaitUntilIdle());
}

TEST_F(WorkerServerTest, FirstMessageIsTheStartAndTheOnlyOne) {
  proto::GenerateRequest end;
  end.mutable_end_sample()->set_index(0);
  for (const proto::GenerateRequest& first : {proto::GenerateRequest(), end}) {
    grpc::ClientContext context;
    auto stream = stub_->Generate(&context);
    stream->Write(first);
    const absl::Status status = FromGrpcStatus(stream->Finish());
    EXPECT_EQ(GetErrorDetails(status)->reason, ErrorReason::kMalformedRequest) << status;
  }
  grpc::ClientContext silent_context;
  auto silent = stub_->Generate(&silent_context);
  silent->WritesDone();
  EXPECT_TRUE(absl::IsInvalidArgument(FromGrpcStatus(silent->Finish())));
  rank_.step_us = 20'000;
  grpc::ClientContext twice_context;
  auto twice = Start(Request(390), twice_context);
  proto::GenerateRequest again;
  *again.mutable_start() = Request(1);
  twice->Write(again);
  proto::GenerateResponse message;
  while (twice->Read(&message)) {
  }
  EXPECT_EQ(twice->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(WaitUntilIdle());
}

TEST_F(WorkerServerTest, StatusComesAtOnceAndAgainAndAtAChange) {
  grpc::ClientContext context;
  auto stream = stub_->WatchStatus(&context, {});
  proto::ReplicaStatus status;
  ASSERT_TRUE(stream->Read(&status));
  EXPECT_EQ(status.epoch(), 7u);
  EXPECT_EQ(status.fingerprint(), "abc");
  EXPECT_EQ(status.kv_tokens(), 1600u);
  EXPECT_EQ(status.context_tokens(), 400u);
  ASSERT_TRUE(stream->Read(&status));  // the interval's end, wherever in it the stream began
  auto last = std::chrono::steady_clock::now();
  auto shortest = std::chrono::steady_clock::duration::max();  // a stall makes the others longer
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(stream->Read(&status));
    const auto now = std::chrono::steady_clock::now();
    shortest = std::min(shortest, now - std::exchange(last, now));
  }
  EXPECT_LT(shortest, milliseconds(1000));
  loop_.Drain(last + std::chrono::seconds(5));
  do {
    ASSERT_TRUE(stream->Read(&status));
  } while (!status.draining());
  EXPECT_LT(std::chrono::steady_clock::now() - last, milliseconds(1500));
  server_->Shutdown(milliseconds(500));
  while (stream->Read(&status)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(WorkerServerTest, HealthFollowsReadiness) {
  for (const char* name : {"", "liveness", "readiness"}) EXPECT_EQ(Health(name), "SERVING") << name;
  server_->SetNotReady();
  EXPECT_EQ(Health("readiness"), "NOT_SERVING");
  EXPECT_EQ(Health("liveness"), "SERVING");
}

TEST_F(WorkerServerTest, LostReplicaIsUnavailable) {
  rank_.step_us = 2000;
  rank_.fail_after = 30;
  const Answer answer = Generate(Request(300));
  EXPECT_TRUE(absl::IsUnavailable(answer.status)) << answer.status;
  EXPECT_EQ(answer.details.reason, ErrorReason::kReplicaLost);
  EXPECT_EQ(Generate(Request(3)).details.reason, ErrorReason::kReplicaLost);
}

TEST_F(WorkerServerTest, CompressedMessagesAreRefused) {
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  proto::StartGeneration request = Request(3);
  request.set_caller(std::string(4000, 'a'));  // worth compressing, or it is sent as it is
  EXPECT_EQ(Generate(request, &context).status.code(), absl::StatusCode::kUnimplemented);
}

TEST_F(WorkerServerTest, TakenPortIsAnError) {
  WorkerServerOptions options = options_;
  options.listen = address_;
  EXPECT_TRUE(absl::IsUnavailable(WorkerServer::Start(options, &loop_).status()));
}

}  // namespace
}  // namespace phi::service
