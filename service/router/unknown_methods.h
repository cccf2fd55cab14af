#pragma once

#include <grpcpp/generic/async_generic_service.h>

#include "service/telemetry/metric_page.h"

namespace phi::service {

// Answers every call of a method that no service has with UNIMPLEMENTED, as gRPC itself would, and
// counts it: a client of another version shows.
class UnknownMethods final : public grpc::CallbackGenericService {
 public:
  explicit UnknownMethods(const MetricPage& metrics)
      : count_(metrics.Get(MetricId::kRouterRequestsTotal,
                           {MethodLabel::kOther,
                            static_cast<size_t>(grpc::StatusCode::UNIMPLEMENTED),
                            kReasonNone})) {}

 private:
  class Refusal final : public grpc::ServerGenericBidiReactor {
   public:
    Refusal() { Finish(grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "no such method")); }
    void OnDone() override { delete this; }
  };

  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* /*context*/) override {
    count_.Add(1);
    return new Refusal;
  }

  const MetricPage::Series count_;
};

}  // namespace phi::service
