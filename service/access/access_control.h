#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/support/string_ref.h"
#include "service/access/token_bucket.h"
#include "service/access/token_file.h"

namespace phi::service {

// What a caller has taken of its limits in this process.
struct CallerUsage;

// A call's share of its caller's limits; gives back its place when it ends or is destroyed. One
// made by default is of a server that asks nobody for a token. Not thread-safe; two grants are
// independent.
class CallerGrant {
 public:
  CallerGrant();
  CallerGrant(CallerGrant&&) noexcept;
  CallerGrant& operator=(CallerGrant&&) noexcept;
  ~CallerGrant();

  // The token's name; empty where no token is asked for.
  const std::string& name() const { return name_; }

  // CALLER_LIMIT, with the time to come back, while the caller's tokens per minute are spent.
  absl::Status CheckTokens() const;
  // Counts prompt or generated tokens.
  void Charge(uint64_t tokens) const;
  // Gives back the place among the requests under way; what follows is in vain.
  void End();

 private:
  friend class AccessControl;
  std::string name_;
  std::shared_ptr<CallerUsage> usage_;  // shared by the caller's grants and AccessControl
};

// Who may call, by bearer token (`authorization: Bearer TOKEN`), and how much at once. Limits hold
// in this process: two routers allow twice as much. Any thread may call.
class AccessControl {
 public:
  using Metadata = std::multimap<grpc::string_ref, grpc::string_ref>;

  // From --token_file; empty: everybody may call, without limits. INVALID_ARGUMENT naming the file
  // that cannot be used.
  static absl::StatusOr<std::unique_ptr<AccessControl>> Load(const std::string& path);
  ~AccessControl();
  AccessControl(const AccessControl&) = delete;
  AccessControl& operator=(const AccessControl&) = delete;

  // A call may start. UNAUTHENTICATED without a known token, PERMISSION_DENIED for one that may do
  // nothing, CALLER_LIMIT where as many requests of the caller are under way as it may have.
  absl::StatusOr<CallerGrant> Admit(const Metadata& metadata) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Reads the file again if it has changed. One that cannot be used is logged once and changes
  // nothing. Calls under way keep what they have. One thread at a time.
  void Reload() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Table;

  explicit AccessControl(std::string path);
  absl::Status ReadTable(const std::string& text) ABSL_LOCKS_EXCLUDED(mutex_);

  const std::string path_;
  std::string seen_;     // the content that was looked at last
  bool broken_ = false;  // it could not be read
  mutable absl::Mutex mutex_;
  // Shared with the calls that look something up: a new one takes its place whole. Null: no tokens
  // are asked for.
  std::shared_ptr<const Table> table_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace phi::service
