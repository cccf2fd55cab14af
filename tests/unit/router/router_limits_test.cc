// Calls that are refused: by which code, reason and field, and that nothing reached a replica.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>

#include "tests/unit/router/router_fixture.h"

namespace phi::service {
namespace {

class RouterLimits : public RouterFixture {
 protected:
  // Sends bytes as they are and waits for the end.
  grpc::Status CallRaw(const std::string& method,
                       const std::string& bytes,
                       grpc::ClientContext& context) {
    grpc::GenericStub generic(grpc::CreateChannel("127.0.0.1:" + std::to_string(router_->port()),
                                                  grpc::InsecureChannelCredentials()));
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    grpc::CompletionQueue queue;
    const auto call = generic.PrepareUnaryCall(&context, method, request, &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    EXPECT_TRUE(queue.Next(&tag, &ok));
    return status;
  }
};

TEST_F(RouterLimits, MalformedBytesAreInvalidArgumentAndCounted) {
  AddReplica(Says("x"));
  StartRouter();
  // Field 1 as a text that is cut short, a text that is not UTF-8, and noise.
  for (const std::string& bytes :
       {std::string("\x0a\x05xx"), std::string("\x0a\x02\xff\xfe"), std::string("\xff\xff\xff")}) {
    for (const char* method : {"Generate", "GenerateStream", "Tokenize"}) {
      grpc::ClientContext context;
      const grpc::Status status =
          CallRaw(std::string("/phi.v1.TextGeneration/") + method, bytes, context);
      EXPECT_EQ(Reason(status), "MALFORMED_REQUEST") << method;
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
      EXPECT_EQ(context.GetServerInitialMetadata().count("phi-request-id"), 1U) << method;
    }
  }
  EXPECT_EQ(CallsCounted(MethodLabel::kGenerate,
                         absl::StatusCode::kInvalidArgument,
                         ErrorReason::kMalformedRequest),
            3);
  EXPECT_EQ(CallsCounted(MethodLabel::kTokenize,
                         absl::StatusCode::kInvalidArgument,
                         ErrorReason::kMalformedRequest),
            3);
  EXPECT_TRUE(replicas_[0]->requests().empty());
}

// ServerReflectionRequest{list_services: ""}.
TEST_F(RouterLimits, ReflectionIsThereUnlessSwitchedOff) {
  const std::string method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
  const std::string list_services("\x3a\x00", 2);
  StartRouter({}, 0);
  grpc::ClientContext with;
  EXPECT_TRUE(CallRaw(method, list_services, with).ok());
  reflection_ = false;
  StartRouter({}, 0);
  grpc::ClientContext without;
  EXPECT_EQ(CallRaw(method, list_services, without).error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(RouterLimits, RefusalsNameReasonAndField) {
  AddReplica(Says("x"));
  StartRouter();
  const std::vector<std::pair<std::string, std::function<void(phi::v1::GenerateRequest&)>>> cases =
      {
          {"EMPTY_PROMPT text", [](auto& r) { r.set_text(""); }},
          {"MODEL_NOT_FOUND model", [](auto& r) { r.set_model("other"); }},
          {"INVALID_REQUEST_ID request_id", [](auto& r) { r.set_request_id("a\nb"); }},
          {"FIELD_OUT_OF_RANGE parameters.temperature",
           [](auto& r) { r.mutable_parameters()->set_temperature(2.5F); }},
          {"FIELD_OUT_OF_RANGE parameters.n", [](auto& r) { r.mutable_parameters()->set_n(17); }},
          {"CONTEXT_EXCEEDED parameters.max_new_tokens",
           [](auto& r) { r.mutable_parameters()->set_max_new_tokens(512); }},
          {"PROMPT_TOO_LONG text",
           [](auto& r) {
             for (int i = 0; i < 3000; ++i) *r.mutable_text() += " x1";
           }},
          {"TOKEN_ID_OUT_OF_RANGE token_ids",
           [](auto& r) { r.mutable_token_ids()->add_ids(2047); }},
          {"EMPTY_STOP parameters.stop", [](auto& r) { r.mutable_parameters()->add_stop(""); }},
          {"FIELD_OUT_OF_RANGE parameters.time_limit",
           [](auto& r) { r.mutable_parameters()->mutable_time_limit()->set_seconds(601); }},
      };
  for (const auto& [reason, change] : cases) {
    auto request = Request();
    change(request);
    grpc::ClientContext context;
    EXPECT_EQ(Reason(Stream(request, context).status), reason);
    EXPECT_EQ(context.GetServerInitialMetadata().count("phi-request-id"), 1U) << reason;
    grpc::ClientContext unary_context;
    phi::v1::GenerateResponse response;
    EXPECT_EQ(Reason(stub().Generate(&unary_context, request, &response)), reason);
  }
  EXPECT_TRUE(replicas_[0]->requests().empty());
}

TEST_F(RouterLimits, InflightCap) {
  Script slow = Says("abc");
  slow.delay_before_first = std::chrono::seconds(30);
  tests::FakeReplica& replica = AddReplica(slow);
  StartRouter({.max_inflight_requests = 2});
  grpc::ClientContext contexts[2];
  std::vector<std::unique_ptr<grpc::ClientReader<phi::v1::GenerateStreamResponse>>> readers;
  for (auto& context : contexts) readers.push_back(stub().GenerateStream(&context, Request()));
  ASSERT_TRUE(Eventually([&] { return replica.num_active() == 2; }));
  grpc::ClientContext context;
  EXPECT_EQ(Reason(Stream(Request(), context).status), "QUEUE_FULL");
  EXPECT_EQ(context.GetServerTrailingMetadata().find("grpc-retry-pushback-ms")->second, "1000");
  EXPECT_EQ(metrics_->Get(MetricId::kRouterShedTotal, {ErrorReason::kQueueFull}).Value(), 1);
  EXPECT_TRUE(
      Eventually([&] { return metrics_->Get(MetricId::kRouterInflightRequests).Value() == 2; }));
  for (auto& held : contexts) held.TryCancel();
  for (auto& reader : readers)
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(
      Eventually([&] { return metrics_->Get(MetricId::kRouterInflightRequests).Value() == 0; }));
}

TEST_F(RouterLimits, Row64FullReplicaIsNotAskedNorAnythingTokenized) {
  tests::FakeReplica& replica = AddReplica(Says("x"));
  StartRouter();
  auto status = tests::FakeReplica::ReadyStatus(fingerprint_);
  status.set_queued_requests(status.max_queued_requests());
  replica.SetStatus(status);
  EXPECT_TRUE(Eventually([&] { return Reason(Stream(Request()).status) == "QUEUE_FULL"; }));
  const size_t asked = replica.requests().size();
  const auto milliseconds_of = [](const std::function<void()>& body) {
    const auto start = std::chrono::steady_clock::now();
    body();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
        .count();
  };
  // A prompt that would take long to tokenize, to its end, which alone is kept: full replicas show
  // before it is.
  auto request = Request(std::string(200'000, 'x'));
  request.mutable_parameters()->set_truncate_prompt(5);
  std::vector<double> refusals;
  for (int i = 0; i < 200; ++i) {
    grpc::ClientContext context;
    refusals.push_back(
        milliseconds_of([&] { ASSERT_EQ(Reason(Stream(request, context).status), "QUEUE_FULL"); }));
    ASSERT_EQ(context.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1U);
  }
  EXPECT_EQ(replica.requests().size(), asked);
  const double tokenizing = milliseconds_of(
      [&] { ASSERT_TRUE(tokenizer_->Encode(request.text(), {.max_tokens = 200'000}).ok()); });
  std::sort(refusals.begin(), refusals.end());
  EXPECT_LT(refusals[100], tokenizing / 4);
  std::printf("row 64: refused in %.2f ms (median), %.2f ms (p99), %.2f ms to tokenize each\n",
              refusals[100],
              refusals[198],
              tokenizing);
}

TEST_F(RouterLimits, ReplicasContextCounts) {
  tests::FakeReplica& replica = AddReplica(Says("x"));
  StartRouter();
  auto status = tests::FakeReplica::ReadyStatus(fingerprint_);
  status.set_context_tokens(16);
  replica.SetStatus(status);
  auto request = Request();
  request.mutable_parameters()->set_max_new_tokens(15);
  EXPECT_TRUE(Eventually([&] {
    return Reason(Stream(request).status) == "CONTEXT_EXCEEDED parameters.max_new_tokens";
  }));
}

TEST_F(RouterLimits, ContextEndIsNamed) {
  AddReplica(Says("a b c d e f g h i j k l m n o p"));
  StartRouter();
  auto status = tests::FakeReplica::ReadyStatus(fingerprint_);
  status.set_context_tokens(16);
  replicas_[0]->SetStatus(status);
  EXPECT_TRUE(Eventually([&] {
    const StreamResult stream = Stream(Request());
    return stream.status.ok() && !stream.messages.empty() &&
           stream.messages.back().finish().reason() == phi::v1::FINISH_REASON_CONTEXT_LENGTH;
  }));
}

TEST_F(RouterLimits, WithoutAReplica) {
  StartRouter({}, 0);
  grpc::ClientContext context;
  EXPECT_EQ(Reason(Stream(Request(), context).status), "NO_READY_REPLICA");
  EXPECT_EQ(context.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1U);
  EXPECT_FALSE(router_->ready());
}

// How a reader that takes nothing is cut off, as the metric names it.
struct SlowReaderCase {
  SlowReaderLabel label;
  absl::Duration timeout;
  size_t max_pending_bytes;
};

class RouterSlowReader : public RouterLimits,
                         public ::testing::WithParamInterface<SlowReaderCase> {};

TEST_P(RouterSlowReader, IsCutOff) {
  Script endless;
  endless.tokens.assign(400, Ids("x")[0]);
  endless.hang_at_end = true;
  tests::FakeReplica& replica = AddReplica(endless);
  StartRouter({.slow_reader_timeout = GetParam().timeout,
               .max_pending_bytes = GetParam().max_pending_bytes});
  auto request = Request();
  request.mutable_parameters()->set_max_new_tokens(400);
  request.mutable_parameters()->set_logprobs(20);
  // A window of 64 KiB is full after some 200 tokens with 20 alternatives each, and does not grow.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 16384);
  const auto slow_stub = phi::v1::TextGeneration::NewStub(
      grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(router_->port()),
                                grpc::InsecureChannelCredentials(),
                                arguments));
  grpc::ClientContext context;
  const auto reader = slow_stub->GenerateStream(&context, request);
  EXPECT_TRUE(Eventually([&] { return replica.num_cancelled() == 1; }));
  phi::v1::GenerateStreamResponse message;
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(metrics_->Get(MetricId::kRouterSlowReadersTotal, {GetParam().label}).Value(), 1);
}

TEST_F(RouterLimits, Row32Row33TwoHundredSlowReadersAreCutAndHinderNobody) {
  constexpr int kReaders = 200;
  auto status = tests::FakeReplica::ReadyStatus(fingerprint_);
  status.set_max_queued_requests(2 * kReaders);
  replicas_.push_back(std::make_unique<tests::FakeReplica>(
      status, [this](const phi::worker::v1::StartGeneration& start) {
        Script script = Says("quick");
        if (start.parameters().has_logprobs()) script.tokens.assign(400, script.tokens[0]);
        return script;
      }));
  StartRouter({.slow_reader_timeout = absl::Seconds(2)});
  auto request = Request();
  request.mutable_parameters()->set_max_new_tokens(400);
  request.mutable_parameters()->set_logprobs(20);
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int i = 0; i < 4; ++i) {  // a connection has 128 streams at most
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channels.push_back(grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(router_->port()),
                                                 grpc::InsecureChannelCredentials(),
                                                 arguments));
  }
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<phi::v1::GenerateStreamResponse>>> readers;
  for (int i = 0; i < kReaders; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(phi::v1::TextGeneration::NewStub(channels[static_cast<size_t>(i) % 4])
                          ->GenerateStream(contexts.back().get(), request));
  }
  const auto num_cut = [&] {
    double cut = 0;
    for (const auto label : {SlowReaderLabel::kStalled, SlowReaderLabel::kBufferFull})
      cut += metrics_->Get(MetricId::kRouterSlowReadersTotal, {label}).Value();
    return cut;
  };
  EXPECT_TRUE(Eventually([&] {
    EXPECT_EQ(Stream(Request()).text(), "quick");
    return num_cut() == kReaders;
  }));
  EXPECT_TRUE(
      Eventually([&] { return metrics_->Get(MetricId::kRouterInflightRequests).Value() == 0; }));
  for (auto& reader : readers) {
    phi::v1::GenerateStreamResponse message;
    while (reader->Read(&message)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Ways,
    RouterSlowReader,
    ::testing::Values(SlowReaderCase{SlowReaderLabel::kStalled, absl::Milliseconds(200), 1 << 20},
                      SlowReaderCase{SlowReaderLabel::kBufferFull, absl::Seconds(60), 8192}));

}  // namespace
}  // namespace phi::service
