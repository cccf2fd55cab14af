#pragma once

#include <chrono>
#include <cstddef>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "shard/step_plan.h"

// Step plans from the leader to the other ranks over the socket pairs that the supervisor made
// before it started them: no rendezvous, and a peer's death is an end of file. One message is a
// 4-byte length and an encoded plan.
namespace phi::shard {

// Largest encoded plan that is sent or accepted, in bytes.
inline constexpr size_t kMaxPlanBytes = size_t{64} << 20;

class PlanSender {
 public:
  // Takes ownership of connected stream sockets, one a follower.
  explicit PlanSender(std::vector<int> sockets);
  ~PlanSender();
  PlanSender(const PlanSender&) = delete;
  PlanSender& operator=(const PlanSender&) = delete;

  // UNAVAILABLE when a follower is gone, DEADLINE_EXCEEDED when one does not read in time,
  // INVALID_ARGUMENT for a plan above kMaxPlanBytes. After the first two a follower may hold half a
  // plan, and the group is lost (I5).
  absl::Status Send(const StepPlan& plan, absl::Duration timeout);

  // The same for bytes that are no plan: what the ranks have to agree on before the first one.
  absl::Status SendBytes(std::span<const std::byte> bytes, absl::Duration timeout);

 private:
  std::vector<int> sockets_;
};

class PlanReceiver {
 public:
  // Takes ownership of a connected stream socket.
  explicit PlanReceiver(int socket);
  ~PlanReceiver();
  PlanReceiver(const PlanReceiver&) = delete;
  PlanReceiver& operator=(const PlanReceiver&) = delete;

  // The next plan. CANCELLED when the leader closed the channel between two plans (an orderly end),
  // UNAVAILABLE when it went within one, DEADLINE_EXCEEDED when no whole plan came within `timeout`
  // (a later call goes on where this one stopped), INVALID_ARGUMENT for a malformed one.
  absl::StatusOr<StepPlan> Receive(absl::Duration timeout);

  // What SendBytes sent; errors as above.
  absl::StatusOr<std::vector<std::byte>> ReceiveBytes(absl::Duration timeout);

 private:
  // Reads until message_ has `size` bytes.
  absl::Status Fill(size_t size, std::chrono::steady_clock::time_point deadline);

  int socket_;
  std::vector<std::byte> message_;  // what has come of the current message, its length included
};

}  // namespace phi::shard
