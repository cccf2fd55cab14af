#include "service/text/bpe.h"

#include <algorithm>
#include <limits>
#include <string>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "service/text/byte_level.h"

namespace phi::service {
namespace {

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

uint64_t PairKey(uint32_t left_id, uint32_t right_id) { return uint64_t{left_id} << 32 | right_id; }

}  // namespace

absl::StatusOr<Bpe> Bpe::Create(const TokenizerSpec& spec) {
  absl::flat_hash_map<std::string_view, uint32_t> ids;
  ids.reserve(spec.vocab.size());
  for (size_t id = 0; id < spec.vocab.size(); ++id) {
    ids.emplace(spec.vocab[id], static_cast<uint32_t>(id));
  }
  Bpe bpe;
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = ids.find(ByteLevelCharacter(static_cast<unsigned char>(byte)));
    if (found == ids.end()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("tokenizer.json model.vocab has no token for byte 0x%02X", byte));
    }
    bpe.byte_ids_[static_cast<size_t>(byte)] = found->second;
  }
  bpe.merges_.reserve(spec.merges.size());
  std::string whole;
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const auto& [left, right] = spec.merges[rank];
    whole.assign(left).append(right);
    const auto left_id = ids.find(left);
    const auto right_id = ids.find(right);
    const auto whole_id = ids.find(whole);
    if (left_id == ids.end() || right_id == ids.end() || whole_id == ids.end()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "tokenizer.json model.merges[%d] names a token that model.vocab lacks", rank));
    }
    const Merge merge{.rank = static_cast<uint32_t>(rank), .merged_id = whole_id->second};
    if (!bpe.merges_.emplace(PairKey(left_id->second, right_id->second), merge).second) {
      return absl::InvalidArgumentError(
          absl::StrFormat("tokenizer.json model.merges[%d] is there twice", rank));
    }
  }
  return bpe;
}

const Bpe::Merge* Bpe::FindMerge(uint32_t left_id, uint32_t right_id) const {
  const auto found = merges_.find(PairKey(left_id, right_id));
  return found == merges_.end() ? nullptr : &found->second;
}

namespace {

// std::*_heap keeps the greatest on top, so "less" is "to be merged later".
constexpr auto kMergedLater = [](const auto& a, const auto& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
};

}  // namespace

bool Bpe::AppendCandidate(uint32_t position, Scratch& scratch) const {
  const Scratch::Symbol& left = scratch.symbols_[position];
  if (left.next == kNone) return false;
  const Merge* merge = FindMerge(left.id, scratch.symbols_[left.next].id);
  if (merge == nullptr) return false;
  scratch.heap_.push_back(
      {.rank = merge->rank, .position = position, .merged_id = merge->merged_id});
  return true;
}

void Bpe::PushCandidate(uint32_t position, Scratch& scratch) const {
  if (!AppendCandidate(position, scratch)) return;
  std::push_heap(scratch.heap_.begin(), scratch.heap_.end(), kMergedLater);
}

void Bpe::MergeAll(Scratch& scratch) const {
  auto& symbols = scratch.symbols_;
  auto& heap = scratch.heap_;
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), kMergedLater);
    const Scratch::Candidate top = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = symbols[top.position];
    if (left.merged_away || left.next == kNone) continue;
    Scratch::Symbol& right = symbols[left.next];
    // A neighbour may have been merged since the candidate was found.
    const Merge* merge = FindMerge(left.id, right.id);
    if (merge == nullptr || merge->merged_id != top.merged_id) continue;
    left.id = top.merged_id;
    left.next = right.next;
    right.merged_away = true;
    if (left.next != kNone) symbols[left.next].previous = top.position;
    if (left.previous != kNone) PushCandidate(left.previous, scratch);
    PushCandidate(top.position, scratch);
  }
}

void Bpe::Encode(std::string_view word, Scratch& scratch, std::vector<uint32_t>& ids) const {
  PHI_CHECK(word.size() < kNone, "a word of %zu bytes", word.size());
  const auto size = static_cast<uint32_t>(word.size());
  scratch.symbols_.resize(size);
  scratch.heap_.clear();
  for (uint32_t i = 0; i < size; ++i) {
    scratch.symbols_[i] = {.id = byte_ids_[static_cast<unsigned char>(word[i])],
                           .previous = i == 0 ? kNone : i - 1,
                           .next = i + 1 == size ? kNone : i + 1,
                           .merged_away = false};
  }
  for (uint32_t i = 0; i < size; ++i) AppendCandidate(i, scratch);
  std::make_heap(scratch.heap_.begin(), scratch.heap_.end(), kMergedLater);
  MergeAll(scratch);
  for (const Scratch::Symbol& symbol : scratch.symbols_) {
    if (!symbol.merged_away) ids.push_back(symbol.id);
  }
}

}  // namespace phi::service
