#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace phi::service {

// Requests that wait, and the tokens of their prompts.
struct Waiting {
  uint32_t requests = 0;
  uint32_t tokens = 0;
};

// Whose request is next: first in, first out for each caller, and between callers deficit round
// robin on the cost in tokens, so that one with hundreds of requests delays another's only one by
// its share. Source: Shreedhar and Varghese, "Efficient fair queueing using deficit round robin"
// (SIGCOMM 1995).
//
// A caller's turn lasts while its first request costs no more than its deficit; a turn that ends
// adds kQuantum to it. Who has nothing waiting is forgotten, its deficit too. Every caller gets its
// turn in each round, so nobody starves. O(1) a request, up to its cost over kQuantum; memory is
// bounded by what waits.
class WaitingQueue {
 public:
  // Tokens a turn. Small beside a large request: a caller of many small ones yields soon.
  static constexpr uint64_t kQuantum = 256;

  // `id` waits behind its caller's others; of its cost, `prompt_tokens` count as waiting.
  void Push(std::string_view caller, uint64_t id, uint64_t cost, uint32_t prompt_tokens = 0);
  // The next one, the same until it is removed: it may have to wait for memory and is not overtaken
  // then. Ends turns, so it is no const method.
  std::optional<uint64_t> Front();
  // Takes it out; where it is Front, its caller pays its cost. False where it does not wait.
  bool Remove(uint64_t id);

  bool empty() const { return places_.empty(); }
  const Waiting& total() const { return total_; }
  Waiting of(std::string_view caller) const;
  // Of all who have something waiting.
  std::unordered_map<std::string, Waiting> by_caller() const;

 private:
  struct Entry {
    uint64_t id = 0;
    uint64_t cost = 0;
    uint32_t prompt_tokens = 0;
  };
  struct Caller {
    std::string name;
    uint64_t deficit = kQuantum;
    std::list<Entry> entries = {};  // never empty
    Waiting waiting = {};
  };
  using Turn = std::list<Caller>::iterator;
  struct Place {
    Turn caller;
    std::list<Entry>::iterator entry;
  };

  std::list<Caller> turns_;  // whose turn it is, then who is next
  std::unordered_map<std::string, Turn> callers_;
  std::unordered_map<uint64_t, Place> places_;  // by id
  std::optional<uint64_t> front_;               // the one that Front gave, whose turn it still is
  Waiting total_;
};

}  // namespace phi::service
