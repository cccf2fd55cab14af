#include "service/access/access_control.h"

#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "service/access/small_file.h"
#include "service/api/error.h"
#include "service/telemetry/logging.h"

namespace phi::service {
namespace {

constexpr std::string_view kScheme = "bearer ";

absl::Status Unauthenticated(std::string_view message) {
  return MakeError(ErrorReason::kUnauthenticated, message);
}

// The token of the call's one authorization header.
absl::StatusOr<std::string_view> BearerToken(const AccessControl::Metadata& metadata) {
  const auto [first, last] = metadata.equal_range("authorization");
  if (first == last) return Unauthenticated("the call has no authorization metadata");
  if (std::next(first) != last) return Unauthenticated("more than one authorization");
  const std::string_view value(first->second.data(), first->second.size());
  const std::string_view scheme = value.substr(0, kScheme.size());
  if (!absl::EqualsIgnoreCase(absl::string_view(scheme.data(), scheme.size()),
                              absl::string_view(kScheme.data(), kScheme.size()))) {
    return Unauthenticated("the authorization is not of the form: Bearer TOKEN");
  }
  return value.substr(kScheme.size());
}

}  // namespace

struct CallerUsage {
  absl::Mutex mutex;
  uint32_t requests ABSL_GUARDED_BY(mutex) = 0;
  std::optional<TokenBucket> tokens ABSL_GUARDED_BY(mutex);
};

struct AccessControl::Table {
  std::vector<TokenEntry> entries;
  std::map<std::string, std::shared_ptr<CallerUsage>> usage;  // by name
};

CallerGrant::CallerGrant() = default;
CallerGrant::CallerGrant(CallerGrant&&) noexcept = default;
CallerGrant& CallerGrant::operator=(CallerGrant&& other) noexcept {
  End();
  name_ = std::move(other.name_);
  usage_ = std::move(other.usage_);
  return *this;
}
CallerGrant::~CallerGrant() { End(); }

absl::Status CallerGrant::CheckTokens() const {
  if (usage_ == nullptr) return absl::OkStatus();
  const absl::MutexLock lock(&usage_->mutex);
  if (!usage_->tokens.has_value()) return absl::OkStatus();
  const auto wait = usage_->tokens->Wait(TokenBucket::Clock::now());
  if (wait.count() == 0) return absl::OkStatus();
  return MakeRetryError(ErrorReason::kCallerLimit,
                        "this caller's tokens per minute are spent",
                        absl::FromChrono(wait));
}

void CallerGrant::Charge(uint64_t tokens) const {
  if (usage_ == nullptr) return;
  const absl::MutexLock lock(&usage_->mutex);
  if (usage_->tokens.has_value()) usage_->tokens->Take(tokens, TokenBucket::Clock::now());
}

void CallerGrant::End() {
  if (usage_ == nullptr) return;
  {
    const absl::MutexLock lock(&usage_->mutex);
    --usage_->requests;
  }
  usage_.reset();
}

AccessControl::AccessControl(std::string path) : path_(std::move(path)) {}
AccessControl::~AccessControl() = default;

absl::StatusOr<std::unique_ptr<AccessControl>> AccessControl::Load(const std::string& path) {
  auto access = std::unique_ptr<AccessControl>(new AccessControl(path));
  if (path.empty()) return access;
  PHI_ASSIGN_OR_RETURN(access->seen_, ReadSmallFile("--token_file", path));
  PHI_RETURN_IF_ERROR(access->ReadTable(access->seen_));
  return access;
}

absl::Status AccessControl::ReadTable(const std::string& text) {
  auto entries = ParseTokenFile(text);
  if (!entries.ok()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--token_file: %s: %s", path_, std::string(entries.status().message())));
  }
  auto table = std::make_shared<Table>();
  table->entries = *std::move(entries);
  const auto now = TokenBucket::Clock::now();
  const absl::MutexLock lock(&mutex_);
  for (const TokenEntry& entry : table->entries) {
    std::shared_ptr<CallerUsage>& usage = table->usage[entry.name];
    if (usage != nullptr) continue;
    if (table_ != nullptr) {
      const auto before = table_->usage.find(entry.name);
      if (before != table_->usage.end()) usage = before->second;
    }
    if (usage == nullptr) usage = std::make_shared<CallerUsage>();
    const absl::MutexLock usage_lock(&usage->mutex);
    if (!entry.limits.tokens_per_minute.has_value()) {
      usage->tokens.reset();
    } else if (usage->tokens.has_value()) {
      usage->tokens->SetRate(*entry.limits.tokens_per_minute, now);
    } else {
      usage->tokens.emplace(*entry.limits.tokens_per_minute, now);
    }
  }
  table_ = std::move(table);
  return absl::OkStatus();
}

void AccessControl::Reload() {
  if (path_.empty()) return;
  absl::StatusOr<std::string> text = ReadSmallFile("--token_file", path_);
  absl::Status status = text.status();
  if (text.ok()) {
    if (std::exchange(broken_, false) == false && *text == seen_) return;
    seen_ = *std::move(text);
    status = ReadTable(seen_);
    if (status.ok()) LogInfo("tokens read again", {{"file", path_}});
  } else if (std::exchange(broken_, true)) {
    return;
  }
  if (!status.ok()) {
    LogError("the tokens stay as they were",
             {{"error", std::string_view(status.message().data(), status.message().size())}});
  }
}

absl::StatusOr<CallerGrant> AccessControl::Admit(const Metadata& metadata) const {
  std::shared_ptr<const Table> table;
  {
    const absl::MutexLock lock(&mutex_);
    table = table_;
  }
  CallerGrant grant;
  if (table == nullptr) return grant;
  PHI_ASSIGN_OR_RETURN(const std::string_view token, BearerToken(metadata));
  const TokenEntry* entry = FindToken(table->entries, token);
  if (entry == nullptr) return Unauthenticated("the token is not known");
  if (entry->limits.requests == 0) {
    return MakeError(ErrorReason::kPermissionDenied, "this caller may do nothing");
  }
  const std::shared_ptr<CallerUsage>& usage = table->usage.at(entry->name);
  const absl::MutexLock lock(&usage->mutex);
  if (entry->limits.requests.has_value() && usage->requests >= *entry->limits.requests) {
    return MakeRetryError(ErrorReason::kCallerLimit,
                          "as many requests of this caller are under way as it may have",
                          absl::Seconds(1));
  }
  ++usage->requests;
  grant.name_ = entry->name;
  grant.usage_ = usage;
  return grant;
}

}  // namespace phi::service
