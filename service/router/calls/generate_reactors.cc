#include "service/router/calls/generate_reactors.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "service/api/grpc_deadline.h"
#include "service/api/grpc_status.h"
#include "service/router/calls/grpc_messages.h"
#include "service/router/generate_call.h"

namespace phi::service {
namespace {

GenerateCall::Origin OriginOf(RouterContext& context,
                              const grpc::CallbackServerContext& rpc,
                              MethodLabel method) {
  auto grant = context.access.Admit(rpc.client_metadata());
  const std::string name = grant.ok() ? grant->name() : "";
  return {.method = method,
          .deadline = DeadlineOf(rpc, SteadyNow()),
          .caller = CallerOf(name, rpc),
          .cache_salt = name,
          .grant = std::move(grant)};
}

void AddTrailers(const AnswerSink::End& end, grpc::CallbackServerContext& rpc) {
  AddErrorTrailers(end.status, rpc);
  if (end.tokens_emitted.has_value()) {
    rpc.AddTrailingMetadata("phi-tokens-emitted", std::to_string(*end.tokens_emitted));
  }
}

phi::v1::GenerateResponse ToUnary(const std::vector<phi::v1::GenerateStreamResponse>& answers) {
  phi::v1::GenerateResponse response;
  *response.mutable_header() = answers.front().header();
  for (const phi::v1::GenerateStreamResponse& answer : answers) {
    phi::v1::Completion& completion = *response.add_completions();
    completion.set_index(answer.index());
    completion.set_text(answer.text());
    *completion.mutable_token_ids() = answer.token_ids();
    *completion.mutable_logprobs() = answer.logprobs();
    *completion.mutable_finish() = answer.finish();
  }
  *response.mutable_summary() = answers.back().summary();
  return response;
}

class UnaryReactor final : public grpc::ServerUnaryReactor, public AnswerSink {
 public:
  UnaryReactor(RouterContext& context, grpc::CallbackServerContext& rpc, grpc::ByteBuffer& response)
      : calls_(context.calls),
        rpc_(rpc),
        response_(response),
        call_(std::make_shared<GenerateCall>(
            context, this, OriginOf(context, rpc, MethodLabel::kGenerate))) {}

  void Start(const grpc::ByteBuffer& request) { call_->Start(request); }

  bool streams() const override { return false; }
  void SetRequestId(const std::string& request_id) override { request_id_ = request_id; }
  void Write(const phi::v1::GenerateStreamResponse& /*message*/) override {}
  void Finish(const End& end) override {
    AddRequestId(request_id_, end.status, rpc_);
    AddTrailers(end, rpc_);
    if (!end.answers.empty()) response_ = SerializeMessage(ToUnary(end.answers));
    calls_.AddUntaken(&rpc_, request_id_);
    ServerUnaryReactor::Finish(ToGrpcStatus(end.status));
  }

 private:
  void OnCancel() override { call_->OnCancel(); }
  void OnDone() override {
    calls_.RemoveUntaken(&rpc_);
    delete this;
  }

  ActiveCalls& calls_;
  grpc::CallbackServerContext& rpc_;
  grpc::ByteBuffer& response_;
  std::string request_id_;
  const std::shared_ptr<GenerateCall> call_;  // shared as GenerateCall says
};

class StreamReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer>, public AnswerSink {
 public:
  StreamReactor(RouterContext& context, grpc::CallbackServerContext& rpc)
      : calls_(context.calls),
        rpc_(rpc),
        call_(std::make_shared<GenerateCall>(
            context, this, OriginOf(context, rpc, MethodLabel::kGenerateStream))) {}

  void Start(const grpc::ByteBuffer& request) { call_->Start(request); }

  bool streams() const override { return true; }
  void SetRequestId(const std::string& request_id) override { request_id_ = request_id; }
  void Write(const phi::v1::GenerateStreamResponse& message) override {
    BeginAnswer(absl::OkStatus());
    bytes_ = SerializeMessage(message);
    StartWrite(&bytes_);
  }
  void Finish(const End& end) override {
    BeginAnswer(end.status);
    AddTrailers(end, rpc_);
    calls_.AddUntaken(&rpc_, request_id_);
    // What a stalled reader has not taken would hold back the status as well.
    if (end.cut) rpc_.TryCancel();
    if (end.answers.empty()) {
      ServerWriteReactor::Finish(ToGrpcStatus(end.status));
      return;
    }
    bytes_ = SerializeMessage(end.answers.back());
    StartWriteAndFinish(&bytes_, grpc::WriteOptions(), ToGrpcStatus(end.status));
  }

 private:
  void BeginAnswer(const absl::Status& status) {
    if (!std::exchange(begun_, true)) AddRequestId(request_id_, status, rpc_);
  }
  void OnWriteDone(bool ok) override { call_->OnWriteDone(ok); }
  void OnCancel() override { call_->OnCancel(); }
  void OnDone() override {
    calls_.RemoveUntaken(&rpc_);
    delete this;
  }

  ActiveCalls& calls_;
  grpc::CallbackServerContext& rpc_;
  std::string request_id_;
  bool begun_ = false;
  grpc::ByteBuffer bytes_;                    // of the outstanding write
  const std::shared_ptr<GenerateCall> call_;  // shared as GenerateCall says
};

}  // namespace

grpc::ServerUnaryReactor* StartGenerate(RouterContext& context,
                                        grpc::CallbackServerContext& rpc,
                                        const grpc::ByteBuffer& request,
                                        grpc::ByteBuffer& response) {
  auto* reactor = new UnaryReactor(context, rpc, response);
  reactor->Start(request);
  return reactor;
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartGenerateStream(RouterContext& context,
                                                                grpc::CallbackServerContext& rpc,
                                                                const grpc::ByteBuffer& request) {
  auto* reactor = new StreamReactor(context, rpc);
  reactor->Start(request);
  return reactor;
}

}  // namespace phi::service
