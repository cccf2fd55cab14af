#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace phi::service {

// A `tokenizer.json` as read: its two long tables apart, everything else as a JSON value.
// NOLINTNEXTLINE(bugprone-exception-escape): clang-tidy 14 misreads nlohmann's noexcept move.
struct RawTokenizerJson {
  nlohmann::json config;  // without model.vocab and model.merges
  bool has_vocab = false;
  bool has_merges = false;
  std::vector<std::pair<std::string, uint64_t>> vocab;      // in the file's order
  std::vector<std::pair<std::string, std::string>> merges;  // by rank
};

// Reads the file's text in one pass. The tables go straight into vectors, because as JSON values
// they would cost several times the memory and time. Only tokenizer_json.cc uses this.
// Errors: kInvalidArgument for what is not JSON, a key twice in one object, nesting deeper than 16,
// a token id that is no unsigned integer, or a merge that is neither "a b" nor ["a", "b"].
absl::StatusOr<RawTokenizerJson> ReadRawTokenizerJson(std::string_view json);

}  // namespace phi::service
