#include "service/router/router_service.h"

#include <functional>
#include <memory>
#include <stop_token>
#include <utility>

#include "kernels/base/status_macros.h"
#include "service/api/error.h"
#include "service/api/grpc_status.h"
#include "service/router/calls/call_record.h"
#include "service/router/calls/generate_reactors.h"
#include "service/router/calls/grpc_messages.h"
#include "service/router/model_info.h"

namespace phi::service {
namespace {

// A call without a replica: parse, compute, answer. Owns itself until its RPC is done.
template <typename Request, typename Response>
class PlainCall final : public grpc::ServerUnaryReactor {
 public:
  // `cancelled`: the caller went away meanwhile.
  using Handler = std::function<absl::StatusOr<Response>(
      RouterContext& context, const Request& request, std::stop_token cancelled)>;

  PlainCall(RouterContext& context, grpc::CallbackServerContext& rpc, grpc::ByteBuffer& response)
      : context_(context), rpc_(rpc), response_(response) {}

  void Start(MethodLabel method, const grpc::ByteBuffer& bytes, Handler handler) {
    context_.calls.AddPlain();
    record_.method = method;
    record_.request_id = RequestIdOrNew("");
    record_.arrival = SteadyNow();
    auto grant = context_.access.Admit(rpc_.client_metadata());
    if (!grant.ok()) return Answer(grant.status());
    grant_ = *std::move(grant);
    record_.caller = grant_.name();
    if (absl::Status parsed = ParseMessage(bytes, request_); !parsed.ok()) return Answer(parsed);
    if (context_.calls.draining()) {
      return Answer(MakeRetryError(ErrorReason::kDraining, "this server ends", absl::Seconds(1)));
    }
    // What the limits are costs little to say, and is asked where the pool is full, too.
    if (method == MethodLabel::kGetModelInfo) return Compute(handler);
    // The reactor lives until Answer has called Finish, which the task does once.
    if (context_.work.Submit(CallerOf(grant_.name(), rpc_),
                             [this, handler = std::move(handler)] { Compute(handler); })) {
      return;
    }
    Answer(MakeRetryError(
        ErrorReason::kQueueFull, "too many calls wait for the tokenizer", absl::Seconds(1)));
  }

 private:
  void Compute(const Handler& handler) {
    const SteadyTime start = SteadyNow();
    const absl::StatusOr<Response> response = handler(context_, request_, cancelled_.get_token());
    if (response.ok()) response_ = SerializeMessage(*response);
    record_.own_time = SteadyNow() - start;
    Answer(response.status());
  }

  void Answer(const absl::Status& status) {
    ReportCall(record_, status, context_.metrics);
    grant_.End();
    AddRequestId(record_.request_id, status, rpc_);
    AddErrorTrailers(status, rpc_);
    context_.calls.AddUntaken(&rpc_, record_.request_id);
    context_.calls.RemovePlain();
    Finish(ToGrpcStatus(status));
  }

  void OnCancel() override { cancelled_.request_stop(); }
  void OnDone() override {
    context_.calls.RemoveUntaken(&rpc_);
    delete this;
  }

  RouterContext& context_;
  grpc::CallbackServerContext& rpc_;
  grpc::ByteBuffer& response_;
  CallerGrant grant_;
  CallRecord record_;
  Request request_;
  std::stop_source cancelled_;
};

template <typename Request, typename Response>
grpc::ServerUnaryReactor* StartPlainCall(RouterContext& context,
                                         MethodLabel method,
                                         grpc::CallbackServerContext& rpc,
                                         const grpc::ByteBuffer& request,
                                         grpc::ByteBuffer& response,
                                         typename PlainCall<Request, Response>::Handler handler) {
  auto* call = new PlainCall<Request, Response>(context, rpc, response);
  call->Start(method, request, std::move(handler));
  return call;
}

absl::StatusOr<phi::v1::TokenizeResponse> TokenizeText(RouterContext& context,
                                                       const phi::v1::TokenizeRequest& request,
                                                       std::stop_token cancelled) {
  const Tokenizer& tokenizer = context.model.tokenizer;
  // A token is a byte at least, so the message's size bounds the tokens, too.
  PHI_ASSIGN_OR_RETURN(
      const std::vector<uint32_t> ids,
      tokenizer.Encode(request.text(),
                       {.max_tokens = kMaxMessageBytes, .cancelled = std::move(cancelled)}));
  phi::v1::TokenizeResponse response;
  response.mutable_token_ids()->Add(ids.begin(), ids.end());
  for (const uint32_t id : ids) response.add_pieces(std::string(tokenizer.TokenBytes(id)));
  return response;
}

absl::StatusOr<phi::v1::DetokenizeResponse> DetokenizeIds(RouterContext& context,
                                                          const phi::v1::DetokenizeRequest& request,
                                                          const std::stop_token& /*cancelled*/) {
  auto text = context.model.tokenizer.Decode(
      std::span(request.token_ids().data(), static_cast<size_t>(request.token_ids_size())));
  if (!text.ok()) {
    return MakeFieldError(
        ErrorReason::kTokenIdOutOfRange, "token_ids", "a token id must be below the vocabulary");
  }
  phi::v1::DetokenizeResponse response;
  response.set_text(*std::move(text));
  return response;
}

absl::StatusOr<phi::v1::GetModelInfoResponse> DescribeModel(
    RouterContext& context,
    const phi::v1::GetModelInfoRequest& /*request*/,
    const std::stop_token& /*cancelled*/) {
  return ModelInfo(context);
}

}  // namespace

grpc::ServerUnaryReactor* RouterService::Generate(grpc::CallbackServerContext* rpc,
                                                  const grpc::ByteBuffer* request,
                                                  grpc::ByteBuffer* response) {
  return StartGenerate(context_, *rpc, *request, *response);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* RouterService::GenerateStream(
    grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request) {
  return StartGenerateStream(context_, *rpc, *request);
}

grpc::ServerUnaryReactor* RouterService::Tokenize(grpc::CallbackServerContext* rpc,
                                                  const grpc::ByteBuffer* request,
                                                  grpc::ByteBuffer* response) {
  return StartPlainCall<phi::v1::TokenizeRequest, phi::v1::TokenizeResponse>(
      context_, MethodLabel::kTokenize, *rpc, *request, *response, TokenizeText);
}

grpc::ServerUnaryReactor* RouterService::Detokenize(grpc::CallbackServerContext* rpc,
                                                    const grpc::ByteBuffer* request,
                                                    grpc::ByteBuffer* response) {
  return StartPlainCall<phi::v1::DetokenizeRequest, phi::v1::DetokenizeResponse>(
      context_, MethodLabel::kDetokenize, *rpc, *request, *response, DetokenizeIds);
}

grpc::ServerUnaryReactor* RouterService::GetModelInfo(grpc::CallbackServerContext* rpc,
                                                      const grpc::ByteBuffer* request,
                                                      grpc::ByteBuffer* response) {
  return StartPlainCall<phi::v1::GetModelInfoRequest, phi::v1::GetModelInfoResponse>(
      context_, MethodLabel::kGetModelInfo, *rpc, *request, *response, DescribeModel);
}

}  // namespace phi::service
