#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "service/text/tokenizer_json.h"

namespace phi::service {

// Finds added tokens in text: the leftmost one, the longest of those that begin there.
// Source: find_matches in added_vocabulary.rs of Hugging Face tokenizers. Linear in the text times
// the longest content. Immutable and safe to share between threads.
class AddedTokenMatcher {
 public:
  struct Match {
    size_t begin = 0;
    size_t end = 0;
    uint32_t id = 0;
    bool special = false;
  };

  // Takes those of `tokens` whose `normalized` is as given. Contents are distinct and not empty.
  AddedTokenMatcher(const std::vector<AddedToken>& tokens, bool normalized);

  // The first match that begins at `from` or later.
  std::optional<Match> Find(std::string_view text, size_t from) const;

 private:
  struct Node {
    bool is_end = false;  // a content ends here
    bool special = false;
    uint32_t id = 0;
  };

  void Insert(const AddedToken& token);
  std::optional<Match> MatchAt(std::string_view text, size_t begin) const;

  // A trie of bytes; node 0 is its root.
  std::vector<Node> nodes_;
  absl::flat_hash_map<uint64_t, uint32_t> children_;  // by node << 8 | byte
  std::bitset<256> first_bytes_;
};

}  // namespace phi::service
