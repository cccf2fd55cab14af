// Any bytes as a tokenizer.json: refused with one line, or a tokenizer whose parts agree.

#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/base/check.h"
#include "service/text/tokenizer.h"
#include "tests/fuzz/one_line.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using phi::service::Tokenizer;
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = Tokenizer::FromJson(json);
  if (!tokenizer.ok()) {
    phi::CheckOneLine(tokenizer.status());
    return 0;
  }
  PHI_CHECK(
      tokenizer->vocab_size() <= size, "%u tokens of %zu bytes", tokenizer->vocab_size(), size);
  std::vector<uint32_t> ids;
  for (uint32_t id = 0; id < tokenizer->vocab_size(); ++id) ids.push_back(id);
  PHI_CHECK(tokenizer->Decode(ids).ok(), "a token that cannot be decoded");
  const auto encoded = tokenizer->Encode("def f(x):\n        return x", {.max_tokens = 1000});
  PHI_CHECK(encoded.ok(), "a text that cannot be encoded");
  for (const uint32_t id : *encoded) PHI_CHECK(id < tokenizer->vocab_size(), "id %u", id);
  return 0;
}
