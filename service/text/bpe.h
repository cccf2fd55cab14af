#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "service/text/tokenizer_json.h"

namespace phi::service {

// Byte-pair encoding of one word: start from single bytes and merge, again and again, the
// neighbouring pair of lowest rank, the leftmost one on a tie.
// Sources: Sennrich et al. 2016, algorithm 1 (arXiv:1508.07909); word.rs of Hugging Face
// tokenizers. O(n log n) in the word's length. Immutable and safe to share between threads.
class Bpe {
 public:
  // Working memory of Encode, kept by the caller so that short words allocate nothing.
  class Scratch {
   private:
    friend class Bpe;
    // A doubly linked list over the word: a merge extends the left symbol and unlinks the right.
    struct Symbol {
      uint32_t id;
      uint32_t previous;
      uint32_t next;
      bool merged_away;
    };
    struct Candidate {
      uint32_t rank;
      uint32_t position;  // of the left symbol
      uint32_t merged_id;
    };
    std::vector<Symbol> symbols_;
    std::vector<Candidate> heap_;
  };

  // kInvalidArgument if a byte is missing from the vocabulary, or a merge names a token that is,
  // or comes twice.
  static absl::StatusOr<Bpe> Create(const TokenizerSpec& spec);

  // Appends the ids of `word`, any bytes, fewer than 2^32 of them.
  void Encode(std::string_view word, Scratch& scratch, std::vector<uint32_t>& ids) const;

 private:
  struct Merge {
    uint32_t rank;
    uint32_t merged_id;
  };

  const Merge* FindMerge(uint32_t left_id, uint32_t right_id) const;
  // Puts the merge of the symbol at `position` with its right neighbour, if there is one, at the
  // end of the heap's vector; the heap itself is the caller's to restore. False if there is none.
  bool AppendCandidate(uint32_t position, Scratch& scratch) const;
  void PushCandidate(uint32_t position, Scratch& scratch) const;
  void MergeAll(Scratch& scratch) const;

  std::array<uint32_t, 256> byte_ids_{};
  absl::flat_hash_map<uint64_t, Merge> merges_;  // by left id << 32 | right id
};

}  // namespace phi::service
