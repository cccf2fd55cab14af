#include "service/api/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "service/api/grpc_status.h"

namespace phi::service {
namespace {

TEST(ErrorTest, EveryReasonTravelsOverGrpcAndBack) {
  for (const ErrorReasonRow& row : ErrorReasons()) {
    const grpc::Status sent = ToGrpcStatus(MakeError(row.reason, "a message"));
    EXPECT_EQ(static_cast<int>(sent.error_code()), static_cast<int>(row.code)) << row.name;
    EXPECT_EQ(sent.error_message(), "a message");
    google::rpc::Status details;
    ASSERT_TRUE(details.ParseFromString(sent.error_details()));
    google::rpc::ErrorInfo info;
    ASSERT_EQ(details.details_size(), 1);
    ASSERT_TRUE(details.details(0).UnpackTo(&info));
    EXPECT_EQ(info.reason(), row.name);
    EXPECT_EQ(info.domain(), "phi-serve");
    const auto received = GetErrorDetails(FromGrpcStatus(sent));
    ASSERT_TRUE(received.has_value()) << row.name;
    EXPECT_EQ(received->reason, row.reason);
    EXPECT_EQ(received->field, "");
    EXPECT_FALSE(received->retry_after.has_value());
  }
}

TEST(ErrorTest, ReasonsAreUniqueAndExplained) {
  std::set<std::string_view> names;
  for (const ErrorReasonRow& row : ErrorReasons()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_THAT(std::string(row.meaning), ::testing::EndsWith(".")) << row.name;
    EXPECT_NE(row.code, absl::StatusCode::kOk);
    EXPECT_NE(row.code, absl::StatusCode::kUnknown);
  }
}

TEST(ErrorTest, FieldAndRetryTravel) {
  const auto field = GetErrorDetails(FromGrpcStatus(
      ToGrpcStatus(MakeFieldError(ErrorReason::kFieldOutOfRange, "parameters.top_p", "too high"))));
  ASSERT_TRUE(field.has_value());
  EXPECT_EQ(field->field, "parameters.top_p");
  const auto retry = GetErrorDetails(FromGrpcStatus(
      ToGrpcStatus(MakeRetryError(ErrorReason::kQueueFull, "full", absl::Milliseconds(1250)))));
  ASSERT_TRUE(retry.has_value());
  EXPECT_EQ(retry->retry_after, absl::Milliseconds(1250));
}

TEST(ErrorTest, WhatIsNotOurReasonLeaksNothing) {
  const grpc::Status shown = ToGrpcStatus(absl::NotFoundError("/secret/path: no such file"));
  EXPECT_EQ(shown.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(shown.error_message(), "internal error");
  EXPECT_EQ(GetErrorDetails(FromGrpcStatus(shown))->reason, ErrorReason::kInternal);
}

TEST(ErrorTest, CallersOwnEndingKeepsItsCode) {
  EXPECT_EQ(ToGrpcStatus(absl::CancelledError("x")).error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(ToGrpcStatus(absl::DeadlineExceededError("x")).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
}

TEST(ErrorTest, DetailsOfOthersAreNotTaken) {
  google::rpc::Status details;
  google::rpc::ErrorInfo info;
  info.set_domain("example.com");
  info.set_reason("QUEUE_FULL");
  details.add_details()->PackFrom(info);
  const absl::Status status = FromGrpcStatus(
      grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "theirs", details.SerializeAsString()));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(GetErrorDetails(status).has_value());
  EXPECT_FALSE(GetErrorDetails(FromGrpcStatus(grpc::Status(
                                   grpc::StatusCode::INTERNAL, "x", "no google.rpc.Status")))
                   .has_value());
}

}  // namespace
}  // namespace phi::service
