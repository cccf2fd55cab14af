#include "service/worker/batching/waiting_queue.h"

#include <iterator>

#include "kernels/base/check.h"

namespace phi::service {

void WaitingQueue::Push(std::string_view caller,
                        uint64_t id,
                        uint64_t cost,
                        uint32_t prompt_tokens) {
  std::string name(caller);
  auto known = callers_.find(name);
  if (known == callers_.end()) {
    turns_.push_back(Caller{.name = name});
    known = callers_.emplace(std::move(name), std::prev(turns_.end())).first;
  }
  const Turn turn = known->second;
  turn->entries.push_back({id, cost, prompt_tokens});
  for (Waiting* waiting : {&turn->waiting, &total_}) {
    ++waiting->requests;
    waiting->tokens += prompt_tokens;
  }
  const auto [place, is_new] = places_.emplace(id, Place{turn, std::prev(turn->entries.end())});
  PHI_CHECK(is_new, "request %llu waits twice", static_cast<unsigned long long>(id));
}

std::optional<uint64_t> WaitingQueue::Front() {
  if (front_ || turns_.empty()) return front_;
  while (turns_.front().entries.front().cost > turns_.front().deficit) {
    turns_.front().deficit += kQuantum;
    turns_.splice(turns_.end(), turns_, turns_.begin());
  }
  front_ = turns_.front().entries.front().id;
  return front_;
}

bool WaitingQueue::Remove(uint64_t id) {
  const auto found = places_.find(id);
  if (found == places_.end()) return false;
  const Place place = found->second;
  if (front_ == id) {
    place.caller->deficit -= place.entry->cost;
    front_.reset();
  }
  for (Waiting* waiting : {&place.caller->waiting, &total_}) {
    --waiting->requests;
    waiting->tokens -= place.entry->prompt_tokens;
  }
  place.caller->entries.erase(place.entry);
  places_.erase(found);
  if (place.caller->entries.empty()) {
    callers_.erase(place.caller->name);
    turns_.erase(place.caller);
  }
  return true;
}

Waiting WaitingQueue::of(std::string_view caller) const {
  const auto found = callers_.find(std::string(caller));
  return found == callers_.end() ? Waiting() : found->second->waiting;
}

std::unordered_map<std::string, Waiting> WaitingQueue::by_caller() const {
  std::unordered_map<std::string, Waiting> waiting;
  for (const Caller& caller : turns_) waiting.emplace(caller.name, caller.waiting);
  return waiting;
}

}  // namespace phi::service
