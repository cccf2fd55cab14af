#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "service/worker/engine_request.h"

namespace phi::service {

struct Sequence;

// A request from Submit to its end, over all its samples.
struct ActiveRequest {
  EngineRequest request;  // without its prompt, which is in its sequences
  uint32_t num_prompt_tokens = 0;
  uint64_t admission = 0;                  // counts up from 1: its age among the admitted; 0 waits
  std::unique_ptr<Sequence> waiting = {};  // its only sequence while it waits
  uint32_t num_living = 0;                 // samples that have not ended
  uint32_t num_generated = 0;
  uint32_t num_computed = 0;  // inputs that went through the model
  RequestTimes times = {};
};

// One sample's tokens and where their keys and values are. Until the prompt is computed one
// sequence stands for all samples of its request; they fork after it.
struct Sequence {
  ActiveRequest* owner = nullptr;
  uint32_t sample = 0;
  std::vector<uint32_t> tokens = {};     // the prompt, then what was drawn
  std::vector<uint32_t> block_ids = {};  // of positions 0 on; none while it is not running
  uint32_t num_computed = 0;             // tokens whose keys and values are in those blocks
  uint32_t num_computed_before = 0;      // the most that were, before it lost its blocks
  SteadyTime latest_token = {};
  bool ended = false;  // to be dropped

  uint32_t num_generated() const {
    return static_cast<uint32_t>(tokens.size()) - owner->num_prompt_tokens;
  }
  uint32_t num_remaining() const { return static_cast<uint32_t>(tokens.size()) - num_computed; }
  // Its next input is the token drawn last; otherwise it has a prompt, or what it lost, to compute.
  bool decoding() const { return num_generated() > 0 && num_remaining() == 1; }
  // Whether its next draw is the first one for all samples.
  bool forks() const { return num_generated() == 0 && owner->request.num_samples > 1; }
  uint32_t num_draws() const { return forks() ? owner->request.num_samples : 1; }
};

// Whether `a` was admitted before `b`: who is younger gives way.
inline bool IsOlder(const Sequence& a, const Sequence& b) {
  const uint64_t age_a = a.owner->admission;
  const uint64_t age_b = b.owner->admission;
  return age_a != age_b ? age_a < age_b : a.sample < b.sample;
}

// Sequences in order of age, oldest first.
using SequenceList = std::vector<std::unique_ptr<Sequence>>;
void InsertByAge(std::unique_ptr<Sequence> sequence, SequenceList& list);

}  // namespace phi::service
