#include "service/text/added_tokens.h"

namespace phi::service {
namespace {

uint64_t ChildKey(uint32_t node, char byte) {
  return uint64_t{node} << 8 | static_cast<unsigned char>(byte);
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(const std::vector<AddedToken>& tokens, bool normalized)
    : nodes_(1) {
  for (const AddedToken& token : tokens) {
    if (token.normalized == normalized) Insert(token);
  }
}

void AddedTokenMatcher::Insert(const AddedToken& token) {
  first_bytes_.set(static_cast<unsigned char>(token.content.front()));
  uint32_t node = 0;
  for (const char byte : token.content) {
    const auto new_node = static_cast<uint32_t>(nodes_.size());
    const auto [child, is_new] = children_.emplace(ChildKey(node, byte), new_node);
    if (is_new) nodes_.emplace_back();
    node = child->second;
  }
  nodes_[node] = {.is_end = true, .special = token.special, .id = token.id};
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::MatchAt(std::string_view text,
                                                                   size_t begin) const {
  std::optional<Match> longest;
  uint32_t node = 0;
  for (size_t i = begin; i < text.size(); ++i) {
    const auto child = children_.find(ChildKey(node, text[i]));
    if (child == children_.end()) break;
    node = child->second;
    const Node& reached = nodes_[node];
    if (reached.is_end) {
      longest = {.begin = begin, .end = i + 1, .id = reached.id, .special = reached.special};
    }
  }
  return longest;
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::Find(std::string_view text,
                                                                size_t from) const {
  for (size_t i = from; i < text.size(); ++i) {
    if (!first_bytes_.test(static_cast<unsigned char>(text[i]))) continue;
    if (auto match = MatchAt(text, i)) return match;
  }
  return std::nullopt;
}

}  // namespace phi::service
