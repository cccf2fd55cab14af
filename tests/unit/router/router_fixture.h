#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "phi/v1/generation.grpc.pb.h"
#include "service/api/error.h"
#include "service/router/router_server.h"
#include "service/telemetry/metric_page.h"
#include "tests/support/fake_replica.h"

namespace phi::service {

// What a caller saw of a stream.
struct StreamResult {
  std::vector<phi::v1::GenerateStreamResponse> messages;
  grpc::Status status;
  std::string text() const;
  std::vector<uint32_t> token_ids() const;
};

// A router over fake replicas, all in this process, over real gRPC on ports that the system picks.
class RouterFixture : public ::testing::Test {
 protected:
  using Script = tests::FakeReplica::Script;

  void SetUp() override;

  // A ready replica that answers `script` to everything; kept until the test ends or Remove.
  tests::FakeReplica& AddReplica(const Script& script);
  tests::FakeReplica& AddReplica(tests::FakeReplica::ScriptFor script_for);

  // A router over the replicas so far; waits until `num_ready` of them are.
  void StartRouter(CallLimits limits = {}, size_t num_ready = 1);
  // Waits until `condition`, at most a minute.
  static bool Eventually(const std::function<bool()>& condition);
  size_t NumInState(std::string_view state);

  phi::v1::TextGeneration::Stub& stub() { return *stub_; }
  StreamResult Stream(const phi::v1::GenerateRequest& request, grpc::ClientContext& context);
  StreamResult Stream(const phi::v1::GenerateRequest& request);
  double CallsCounted(MethodLabel method, absl::StatusCode code, std::optional<ErrorReason> reason);

  std::vector<uint32_t> Ids(std::string_view text) const;
  phi::v1::GenerateRequest Request(const std::string& text = "def f():") const;
  // The replica's tokens for `text`, one a message.
  Script Says(std::string_view text) const;

  // Set before StartRouter.
  bool reflection_ = true;
  bool by_name_ = false;  // the replicas as dns:///localhost:PORT
  std::string fingerprint_;
  std::optional<Tokenizer> tokenizer_;
  std::unique_ptr<MetricPage> metrics_;
  std::vector<std::unique_ptr<tests::FakeReplica>> replicas_;
  std::unique_ptr<RouterServer> router_;
  std::unique_ptr<phi::v1::TextGeneration::Stub> stub_;
};

// The reason's name and the field, as "FIELD_OUT_OF_RANGE parameters.top_p"; empty for OK, the code
// for an error without details.
std::string Reason(const grpc::Status& status);

}  // namespace phi::service
