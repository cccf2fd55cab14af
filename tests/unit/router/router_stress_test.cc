// Thousands of calls at once that end in every way there is: each ends exactly once, and nothing is
// left behind at the router or at a replica.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/router/router_fixture.h"

namespace phi::service {
namespace {

constexpr uint32_t kSeed = 5;
constexpr int kCalls = 5000;
constexpr int kAtOnce = 100;

// What the callers of a run saw, and a gate that keeps no more than kAtOnce of them under way.
class Outcomes {
 public:
  void Enter() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return under_way_ < kAtOnce; });
    ++under_way_;
  }
  void Leave(const grpc::Status& status) {
    const std::lock_guard lock(mutex_);
    ++by_code_[status.error_code()];
    --under_way_;
    changed_.notify_all();
  }
  bool AwaitAll(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(120), [&] {
      int ended = 0;
      for (const auto& [unused, number] : by_code_) ended += number;
      return ended == count && under_way_ == 0;
    });
  }
  std::map<int, int> by_code() {
    const std::lock_guard lock(mutex_);
    return by_code_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int under_way_ = 0;
  std::map<int, int> by_code_;
};

// How one caller behaves; drawn from the seed.
struct Behaviour {
  bool unary = false;
  int cancel_after_messages = -1;  // never; 0: right after the start
  std::chrono::microseconds cancel_delay{0};
  std::chrono::microseconds deadline{0};  // none
  std::chrono::microseconds read_delay{0};
};

// Owns itself; at its end it tells `outcomes` once.
class StreamCaller final : public grpc::ClientReadReactor<phi::v1::GenerateStreamResponse> {
 public:
  static void Start(phi::v1::TextGeneration::Stub& stub,
                    phi::v1::GenerateRequest request,
                    const Behaviour& behaviour,
                    Outcomes& outcomes) {
    auto* caller = new StreamCaller(std::move(request), behaviour, outcomes);
    if (behaviour.deadline.count() > 0)
      caller->context_.set_deadline(std::chrono::system_clock::now() + behaviour.deadline);
    stub.async()->GenerateStream(&caller->context_, &caller->request_, caller);
    caller->StartRead(&caller->message_);
    if (behaviour.cancel_after_messages == 0) {
      caller->AddHold();
      caller->StartCall();
      std::this_thread::sleep_for(behaviour.cancel_delay);
      caller->context_.TryCancel();
      caller->RemoveHold();
    } else {
      caller->StartCall();
    }
  }

 private:
  StreamCaller(phi::v1::GenerateRequest request, const Behaviour& behaviour, Outcomes& outcomes)
      : request_(std::move(request)), behaviour_(behaviour), outcomes_(outcomes) {}
  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (++num_messages_ == behaviour_.cancel_after_messages) context_.TryCancel();
    if (behaviour_.read_delay.count() > 0) std::this_thread::sleep_for(behaviour_.read_delay);
    StartRead(&message_);
  }
  void OnDone(const grpc::Status& status) override {
    outcomes_.Leave(status);
    delete this;
  }

  const phi::v1::GenerateRequest request_;
  const Behaviour behaviour_;
  Outcomes& outcomes_;
  grpc::ClientContext context_;
  phi::v1::GenerateStreamResponse message_;
  int num_messages_ = 0;
};

void CallUnary(phi::v1::TextGeneration::Stub& stub,
               const phi::v1::GenerateRequest& request,
               const Behaviour& behaviour,
               Outcomes& outcomes) {
  struct Call {
    grpc::ClientContext context;
    phi::v1::GenerateRequest request;
    phi::v1::GenerateResponse response;
  };
  const auto call = std::make_shared<Call>();  // shared by gRPC's callback and the canceller below
  call->request = request;
  if (behaviour.deadline.count() > 0)
    call->context.set_deadline(std::chrono::system_clock::now() + behaviour.deadline);
  stub.async()->Generate(&call->context,
                         &call->request,
                         &call->response,
                         [call, &outcomes](const grpc::Status& status) { outcomes.Leave(status); });
  if (behaviour.cancel_after_messages < 0) return;
  std::this_thread::sleep_for(behaviour.cancel_delay);
  call->context.TryCancel();
}

class RouterStress : public RouterFixture {
 protected:
  uint32_t Below(uint32_t bound) { return static_cast<uint32_t>(random_() % bound); }

  // A replica whose answers are short or long, at once or late, whole or broken off.
  void AddUnreliableReplica(uint32_t seed) {
    struct State {
      std::mutex mutex;
      std::mt19937 random;
    };
    const auto state = std::make_shared<State>();  // kept by the replica's script
    state->random.seed(seed);
    const auto text = Says("def f(x):\n    return x + 1\n\nprint(f(2)) # naïve 🙂\n");
    AddReplica([state, text](const phi::worker::v1::StartGeneration&) {
      const std::lock_guard lock(state->mutex);
      Script script = text;
      const auto roll = static_cast<int>(state->random() % 100);
      script.tokens_per_message = 1 + state->random() % 3;
      script.delay_before_first = std::chrono::microseconds(state->random() % 3000);
      script.delay_per_message = std::chrono::microseconds(state->random() % 500);
      if (roll < 10) script.tokens.clear();
      if (roll < 15) script.status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "socket closed");
      if (roll >= 15 && roll < 17) script.status = grpc::Status(grpc::StatusCode::INTERNAL, "bug");
      if (roll >= 17 && roll < 20) script.hang_at_end = true;
      return script;
    });
  }

  Behaviour RandomBehaviour() {
    Behaviour behaviour;
    behaviour.unary = Below(4) == 0;
    const uint32_t roll = Below(100);
    if (roll < 35) {
      behaviour.cancel_after_messages = static_cast<int>(Below(behaviour.unary ? 1 : 12));
      behaviour.cancel_delay = std::chrono::microseconds(Below(2) == 0 ? 0 : Below(300));
    } else if (roll < 55) {
      behaviour.deadline = std::chrono::microseconds(1 + Below(15'000));
    } else if (roll < 60) {
      behaviour.read_delay = std::chrono::microseconds(Below(2000));
    }
    return behaviour;
  }

  phi::v1::GenerateRequest RandomRequest() {
    auto request = Request("def f(x):\n");
    auto& parameters = *request.mutable_parameters();
    if (Below(3) == 0) parameters.set_n(1 + Below(4));
    if (Below(3) == 0) parameters.add_stop("return");
    if (Below(4) == 0) parameters.set_logprobs(Below(21));
    if (Below(20) == 0) parameters.set_top_p(2);
    // Some replicas hang: nobody waits for them for ever.
    parameters.mutable_time_limit()->set_nanos(
        static_cast<int32_t>(50'000'000 + Below(50'000'000)));
    return request;
  }

  bool NothingIsLeft() {
    for (const auto& replica : replicas_) {
      if (replica->num_active() != 0) return false;
    }
    return metrics_->Get(MetricId::kRouterInflightRequests).Value() == 0;
  }

  std::mt19937 random_{kSeed};
};

TEST_F(RouterStress, Row28Row30EveryCallEndsOnceAndNothingIsLeft) {
  for (uint32_t i = 0; i < 3; ++i) AddUnreliableReplica(i);
  StartRouter({.max_inflight_requests = kAtOnce - 10,
               .slow_reader_timeout = absl::Milliseconds(200),
               .max_pending_bytes = 4096},
              3);
  const auto start = std::chrono::steady_clock::now();
  Outcomes outcomes;
  for (int i = 0; i < kCalls; ++i) {
    outcomes.Enter();
    const Behaviour behaviour = RandomBehaviour();
    if (behaviour.unary) {
      CallUnary(stub(), RandomRequest(), behaviour, outcomes);
    } else {
      StreamCaller::Start(stub(), RandomRequest(), behaviour, outcomes);
    }
  }
  ASSERT_TRUE(outcomes.AwaitAll(kCalls));
  EXPECT_TRUE(Eventually([this] { return NothingIsLeft(); }));
  // Each was counted once: what callers saw may differ from what the router told them, but not in
  // number. A call that ends before its headers have arrived never reaches the router.
  double counted = 0;
  for (const MethodLabel method : {MethodLabel::kGenerate, MethodLabel::kGenerateStream}) {
    for (int code = 0; code <= 16; ++code) {
      counted += CallsCounted(method, static_cast<absl::StatusCode>(code), std::nullopt);
      for (const ErrorReasonRow& row : ErrorReasons())
        counted += CallsCounted(method, static_cast<absl::StatusCode>(code), row.reason);
    }
  }
  EXPECT_LE(counted, kCalls);
  EXPECT_GT(counted, kCalls / 2);
  const auto codes = outcomes.by_code();
  for (const auto code : {grpc::StatusCode::OK,
                          grpc::StatusCode::CANCELLED,
                          grpc::StatusCode::DEADLINE_EXCEEDED,
                          grpc::StatusCode::INVALID_ARGUMENT,
                          grpc::StatusCode::UNAVAILABLE,
                          grpc::StatusCode::INTERNAL}) {
    EXPECT_GT(codes.count(code), 0U) << "no call ended with " << code;
  }
  EXPECT_EQ(codes.count(grpc::StatusCode::UNKNOWN), 0U);
  std::printf("%d calls in %.1f s, %.0f reached the router:",
              kCalls,
              std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
              counted);
  for (const auto& [code, count] : codes) std::printf(" code %d: %d", code, count);
  std::printf("\n");
  // It still serves.
  EXPECT_TRUE(Eventually([this] { return Stream(Request()).status.ok(); }));
}

}  // namespace
}  // namespace phi::service
