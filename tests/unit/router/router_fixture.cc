#include "tests/unit/router/router_fixture.h"

#include <chrono>
#include <thread>

#include "service/api/grpc_status.h"

namespace phi::service {
namespace {

const char* const kModelDir = PHI_SOURCE_DIR "/deploy/models/phi-nano";

}  // namespace

std::string StreamResult::text() const {
  std::string joined;
  for (const auto& message : messages) joined += message.text();
  return joined;
}

std::vector<uint32_t> StreamResult::token_ids() const {
  std::vector<uint32_t> ids;
  for (const auto& message : messages)
    ids.insert(ids.end(), message.token_ids().begin(), message.token_ids().end());
  return ids;
}

void RouterFixture::SetUp() {
  auto model = LoadServedModel(kModelDir, "");
  ASSERT_TRUE(model.ok()) << model.status();
  fingerprint_ = model->fingerprint;
  tokenizer_ = std::move(model->tokenizer);
}

tests::FakeReplica& RouterFixture::AddReplica(const Script& script) {
  return AddReplica([script](const phi::worker::v1::StartGeneration&) { return script; });
}

tests::FakeReplica& RouterFixture::AddReplica(tests::FakeReplica::ScriptFor script_for) {
  replicas_.push_back(std::make_unique<tests::FakeReplica>(
      tests::FakeReplica::ReadyStatus(fingerprint_), std::move(script_for)));
  return *replicas_.back();
}

void RouterFixture::StartRouter(CallLimits limits, size_t num_ready) {
  router_.reset();  // a second one may be started, and the first uses the metrics to its end
  metrics_ = *MetricPage::Create(1);
  RouterServerOptions options{
      .listen = "127.0.0.1:0", .replicas = {}, .limits = limits, .reflection = reflection_};
  for (const auto& replica : replicas_) {
    if (by_name_) {
      options.replicas.names.push_back({"localhost", std::to_string(replica->port())});
    } else {
      options.replicas.addresses.push_back(replica->address());
    }
  }
  auto router = RouterServer::Start(options, *LoadServedModel(kModelDir, ""), metrics_.get());
  ASSERT_TRUE(router.ok()) << router.status();
  router_ = *std::move(router);
  stub_ = phi::v1::TextGeneration::NewStub(grpc::CreateChannel(
      "127.0.0.1:" + std::to_string(router_->port()), grpc::InsecureChannelCredentials()));
  ASSERT_TRUE(Eventually(
      [&] { return NumInState("ready") >= num_ready && (num_ready == 0 || router_->ready()); }));
}

bool RouterFixture::Eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (std::chrono::steady_clock::now() < deadline) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

size_t RouterFixture::NumInState(std::string_view state) {
  grpc::ClientContext context;
  phi::v1::GetModelInfoResponse info;
  if (!stub_->GetModelInfo(&context, {}, &info).ok()) return 0;
  return static_cast<size_t>(
      std::count_if(info.replicas().begin(), info.replicas().end(), [&](const auto& replica) {
        return replica.state() == state;
      }));
}

StreamResult RouterFixture::Stream(const phi::v1::GenerateRequest& request,
                                   grpc::ClientContext& context) {
  StreamResult result;
  const auto reader = stub_->GenerateStream(&context, request);
  phi::v1::GenerateStreamResponse message;
  while (reader->Read(&message)) result.messages.push_back(message);
  result.status = reader->Finish();
  return result;
}

StreamResult RouterFixture::Stream(const phi::v1::GenerateRequest& request) {
  grpc::ClientContext context;
  return Stream(request, context);
}

double RouterFixture::CallsCounted(MethodLabel method,
                                   absl::StatusCode code,
                                   std::optional<ErrorReason> reason) {
  const LabelIndex reason_label =
      reason.has_value() ? LabelIndex(*reason) : LabelIndex(kReasonNone);
  return metrics_
      ->Get(MetricId::kRouterRequestsTotal, {method, static_cast<size_t>(code), reason_label})
      .Value();
}

std::vector<uint32_t> RouterFixture::Ids(std::string_view text) const {
  return *tokenizer_->Encode(text, {.max_tokens = 100'000, .cancelled = {}});
}

phi::v1::GenerateRequest RouterFixture::Request(const std::string& text) const {
  phi::v1::GenerateRequest request;
  request.set_text(text);
  return request;
}

RouterFixture::Script RouterFixture::Says(std::string_view text) const {
  Script script;
  script.tokens = Ids(text);
  return script;
}

std::string Reason(const grpc::Status& status) {
  if (status.ok()) return "";
  const auto details = GetErrorDetails(FromGrpcStatus(status));
  if (!details.has_value())
    return std::to_string(status.error_code()) + " " + status.error_message();
  const std::string name(ErrorReasonInfo(details->reason).name);
  return details->field.empty() ? name : name + " " + details->field;
}

}  // namespace phi::service
