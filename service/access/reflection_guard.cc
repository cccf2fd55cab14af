#include "service/access/reflection_guard.h"

#include "service/api/grpc_status.h"

namespace phi::service {
namespace {

class ReflectionGuard final : public grpc::AuthMetadataProcessor {
 public:
  explicit ReflectionGuard(const AccessControl* access) : access_(access) {}

  bool IsBlocking() const override { return false; }

  grpc::Status Process(const InputMetadata& metadata,
                       grpc::AuthContext* /*context*/,
                       OutputMetadata* /*consumed*/,
                       OutputMetadata* /*response*/) override {
    const auto path = metadata.find(":path");
    if (path != metadata.end() && !path->second.starts_with("/grpc.reflection."))
      return grpc::Status::OK;
    return ToGrpcStatus(access_->Admit(metadata).status());
  }

 private:
  const AccessControl* const access_;
};

}  // namespace

std::shared_ptr<grpc::AuthMetadataProcessor> MakeReflectionGuard(const AccessControl* access) {
  return std::make_shared<ReflectionGuard>(access);
}

}  // namespace phi::service
