#include "service/router/replicas/replica_pool.h"

#include <grpcpp/create_channel.h>

#include <algorithm>
#include <utility>

#include "service/access/port_limits.h"
#include "service/api/error.h"
#include "service/router/dispatcher.h"
#include "service/router/replicas/replica.h"
#include "service/router/replicas/replica_watch.h"
#include "service/telemetry/logging.h"

namespace phi::service {
namespace {

constexpr absl::Duration kMaintenanceInterval = absl::Milliseconds(250);
// Between two attempts to open a watch.
constexpr absl::Duration kMinBackoff = absl::Milliseconds(100);
constexpr absl::Duration kMaxBackoff = absl::Seconds(2);
// Replicas push at least every 500 ms; one that is silent for that long is taken for hung.
constexpr absl::Duration kSilenceLimit = absl::Seconds(5);

// `host`: whom the replica's certificate must name; empty: the address itself.
std::shared_ptr<grpc::Channel> MakeChannel(
    const std::string& address,
    const std::string& host,
    const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments args = ReplicaChannelArguments();
  if (!host.empty()) args.SetString(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, host);
  return grpc::CreateCustomChannel(address, credentials, args);
}

std::string_view StateName(ReplicaStateLabel state) {
  return LabelValues<ReplicaStateLabel>()[static_cast<size_t>(state)];
}

uint32_t MaxRequests(const phi::worker::v1::ReplicaStatus& status) {
  return status.max_sequences() + status.max_queued_requests();
}

}  // namespace

ReplicaLease::ReplicaLease(ReplicaPool* pool,
                           std::shared_ptr<Replica> replica,
                           const RequestCost& cost)
    : pool_(pool),
      replica_(std::move(replica)),
      cost_tokens_(cost.total()),
      epoch_(replica_->incarnation) {
  replica_->outstanding_tokens += cost_tokens_;
  ++replica_->outstanding_requests;
  pool_->AddUser();
}

ReplicaLease::~ReplicaLease() {
  if (replica_ == nullptr) return;  // moved from
  replica_->outstanding_tokens -= cost_tokens_;
  --replica_->outstanding_requests;
  replica_.reset();
  pool_->RemoveUser();
}

phi::worker::v1::Worker::Stub& ReplicaLease::stub() const { return *replica_->stub; }
const std::string& ReplicaLease::address() const { return replica_->address; }
bool ReplicaLease::IsCurrentEpoch() const { return replica_->incarnation == epoch_; }

void ReplicaLease::BeginCall(grpc::ClientContext* call) const {
  const absl::MutexLock lock(&pool_->users_mutex_);
  pool_->calls_.insert(call);
}

void ReplicaLease::EndCall(grpc::ClientContext* call) const {
  const absl::MutexLock lock(&pool_->users_mutex_);
  pool_->calls_.erase(call);
}

std::unique_ptr<ReplicaPool> ReplicaPool::Start(Options options) {
  return std::unique_ptr<ReplicaPool>(new ReplicaPool(std::move(options)));
}

ReplicaPool::ReplicaPool(Options options) : options_(std::move(options)) {
  OnFound({});
  maintenance_ = std::jthread([this] { Maintain(); });
  if (options_.replicas.names.empty()) return;
  names_.emplace(
      NameWatch::Options{.names = options_.replicas.names,
                         .on_found = [this](const Addresses& found) { OnFound(found); }});
}

ReplicaPool::~ReplicaPool() {
  names_.reset();
  {
    const absl::MutexLock lock(&mutex_);
    ending_ = true;
  }
  changed_.NotifyAll();
  maintenance_.join();
  {
    const absl::MutexLock lock(&mutex_);
    for (const auto& replica : replicas_) {
      if (replica->watch != nullptr) replica->watch->Cancel();
    }
  }
  const absl::MutexLock lock(&users_mutex_);
  for (grpc::ClientContext* const call : calls_) call->TryCancel();
  users_mutex_.Await(absl::Condition(this, &ReplicaPool::NoUsers));
}

void ReplicaPool::AddUser() {
  const absl::MutexLock lock(&users_mutex_);
  ++num_users_;
}

void ReplicaPool::RemoveUser() {
  const absl::MutexLock lock(&users_mutex_);
  --num_users_;
}

void ReplicaPool::Maintain() {
  while (true) {
    PublishReadiness();
    const absl::MutexLock lock(&mutex_);
    StartDueWatches(SteadyNow());
    wake_ = false;
    const auto woken = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return ending_ || wake_; };
    changed_.WaitUntil(mutex_, After(SteadyNow(), kMaintenanceInterval), woken);
    if (ending_) return;
  }
}

void ReplicaPool::OnFound(const Addresses& found) {
  Addresses addresses = found;
  for (const std::string& address : options_.replicas.addresses) addresses[address] = "";
  {
    const absl::MutexLock lock(&mutex_);
    SetAddresses(addresses);
    wake_ = true;
  }
  changed_.NotifyAll();
  PublishReadiness();
}

void ReplicaPool::SetAddresses(const Addresses& addresses) {
  for (size_t i = replicas_.size(); i-- > 0;) {
    if (!addresses.contains(replicas_[i]->address)) RemoveReplica(i);
  }
  for (const auto& [address, host] : addresses) {
    const bool known =
        std::any_of(replicas_.begin(), replicas_.end(), [&wanted = address](const auto& replica) {
          return replica->address == wanted;
        });
    if (!known) AddReplica(address, host);
  }
  options_.metrics->Get(MetricId::kRouterReplicasExpected)
      .Set(static_cast<double>(replicas_.size()));
}

void ReplicaPool::AddReplica(const std::string& address, const std::string& host) {
  const auto slot = options_.metrics->AddReplica(address);
  if (!slot.ok()) {
    LogWarning("too many replicas; one is left out", {{"replica", address}});
    return;
  }
  auto replica = std::make_shared<Replica>();
  replica->address = address;
  replica->stub =
      phi::worker::v1::Worker::NewStub(MakeChannel(address, host, options_.credentials));
  replica->metric_slot = *slot;
  for (size_t state = 0; state < kNumReplicaStates; ++state) {
    replica->state_series[state] =
        options_.metrics->Get(MetricId::kRouterReplicaState, {*slot, state});
  }
  SetState(*replica, ReplicaStateLabel::kConnecting);
  replicas_.push_back(std::move(replica));
}

void ReplicaPool::RemoveReplica(size_t index) {
  const std::shared_ptr<Replica> replica = replicas_[index];
  LogInfo("replica removed", {{"replica", replica->address}});
  replica->removed = true;
  if (replica->watch != nullptr) replica->watch->Cancel();
  options_.metrics->RemoveReplica(replica->metric_slot);
  replicas_.erase(replicas_.begin() + static_cast<std::ptrdiff_t>(index));
}

void ReplicaPool::StartDueWatches(SteadyTime now) {
  for (const auto& replica : replicas_) {
    if (replica->watch != nullptr) {
      if (now <= After(replica->last_heard, kSilenceLimit)) continue;
      SetState(*replica, ReplicaStateLabel::kLost);
      replica->watch->Cancel();
    } else if (now >= replica->next_watch) {
      replica->last_heard = now;
      AddUser();
      replica->watch = ReplicaWatch::Start(this, replica);
    }
  }
}

void ReplicaPool::OnWatchStatus(Replica& replica, const phi::worker::v1::ReplicaStatus& status) {
  {
    const absl::MutexLock lock(&mutex_);
    if (replica.removed) return;
    replica.last_heard = SteadyNow();
    replica.failures = 0;
    if (status.epoch() != replica.status.epoch()) ++replica.incarnation;
    replica.status = status;
    if (status.fingerprint() != options_.fingerprint) {
      SetState(replica, ReplicaStateLabel::kRefused);
    } else {
      SetState(replica,
               status.draining() ? ReplicaStateLabel::kDraining : ReplicaStateLabel::kReady);
    }
  }
  PublishReadiness();
}

void ReplicaPool::OnWatchEnd(Replica& replica) {
  {
    const absl::MutexLock lock(&mutex_);
    replica.watch = nullptr;
    ++replica.failures;
    // The first end may only be a connection of ripe age: it is opened again at once, and a replica
    // that is really gone shows by refusing it.
    absl::Duration backoff = absl::ZeroDuration();
    if (replica.failures > 1) {
      if (replica.state != ReplicaStateLabel::kConnecting && !replica.removed) {
        SetState(replica, ReplicaStateLabel::kLost);
      }
      backoff = std::min(kMaxBackoff, kMinBackoff * (1 << std::min(replica.failures - 2, 10)));
      backoff *= absl::Uniform(random_, 0.5, 1.0);
    } else {
      wake_ = true;
      changed_.NotifyAll();
    }
    replica.next_watch = After(SteadyNow(), backoff);
  }
  PublishReadiness();
}

void ReplicaPool::SetState(Replica& replica, ReplicaStateLabel state) {
  const ReplicaStateLabel before = std::exchange(replica.state, state);
  replica.state_series[static_cast<size_t>(before)].Set(0);
  replica.state_series[static_cast<size_t>(state)].Set(1);
  uint32_t context_tokens = 0;
  for (const auto& other : replicas_) {
    if (other->state != ReplicaStateLabel::kReady) continue;
    const uint32_t its = other->status.context_tokens();
    context_tokens = context_tokens == 0 ? its : std::min(context_tokens, its);
  }
  context_tokens_.store(context_tokens, std::memory_order_relaxed);
  if (before == state) return;
  if (state == ReplicaStateLabel::kRefused) {
    LogWarning(
        "replica refused: it serves another config.json or tokenizer.json than --model holds",
        {{"replica", replica.address}});
  } else {
    LogInfo("replica " + std::string(StateName(state)),
            {{"replica", replica.address},
             {"epoch", replica.status.epoch()},
             {"version", replica.status.version()}});
  }
}

std::vector<ReplicaLoad> ReplicaPool::LoadsLocked() const {
  std::vector<ReplicaLoad> loads;
  loads.reserve(replicas_.size());
  for (const auto& replica : replicas_) {
    loads.push_back({.ready = replica->state == ReplicaStateLabel::kReady,
                     .outstanding_tokens = replica->outstanding_tokens,
                     .queued_requests = replica->status.queued_requests(),
                     .max_queued_requests = replica->status.max_queued_requests(),
                     .queued_tokens = replica->status.queued_tokens(),
                     .max_queued_tokens = replica->status.max_queued_tokens(),
                     .kv_tokens = replica->status.kv_tokens(),
                     .outstanding_requests = replica->outstanding_requests,
                     .max_requests = MaxRequests(replica->status)});
  }
  return loads;
}

std::vector<ReplicaLoad> ReplicaPool::Loads() const {
  const absl::MutexLock lock(&mutex_);
  return LoadsLocked();
}

absl::StatusOr<ReplicaLease> ReplicaPool::Acquire(const RequestCost& cost,
                                                  const Replica* excluded) {
  const absl::MutexLock lock(&mutex_);
  std::optional<size_t> excluded_index;
  for (size_t i = 0; i < replicas_.size(); ++i) {
    if (replicas_[i].get() == excluded) excluded_index = i;
  }
  const auto chosen = ChooseReplica(LoadsLocked(), cost, excluded_index, rotation_++);
  if (!chosen.has_value()) {
    return MakeRetryError(ErrorReason::kNoReadyReplica, "no replica is ready", absl::Seconds(2));
  }
  return ReplicaLease(this, replicas_[*chosen], cost);
}

bool ReplicaPool::AnyReady() const {
  const absl::MutexLock lock(&mutex_);
  return std::any_of(replicas_.begin(), replicas_.end(), [](const auto& replica) {
    return replica->state == ReplicaStateLabel::kReady;
  });
}

ReplicaPool::Summary ReplicaPool::Describe() const {
  const absl::MutexLock lock(&mutex_);
  Summary summary;
  for (const auto& replica : replicas_) {
    phi::v1::ReplicaInfo& info = summary.replicas.emplace_back();
    info.set_address(replica->address);
    info.set_state(std::string(StateName(replica->state)));
    info.set_epoch(replica->status.epoch());
    info.set_world_size(replica->status.world_size());
    info.set_isa(replica->status.isa());
    *info.mutable_deadline_margin() = replica->status.deadline_margin();
    if (replica->state == ReplicaStateLabel::kReady) summary.dtype = replica->status.dtype();
  }
  return summary;
}

void ReplicaPool::PublishReadiness() {
  const absl::MutexLock lock(&publish_mutex_);
  const bool ready = AnyReady();
  if (std::exchange(published_ready_, ready) == ready) return;
  options_.on_ready_change(ready);
}

}  // namespace phi::service
