// Any bytes as a prompt, with the real tokenizer: refused exactly if they are not UTF-8; else the
// ids decode to the same text, and the limit on tokens is exact.

#include <cstdint>
#include <string_view>

#include "kernels/base/check.h"
#include "service/text/utf8.h"
#include "tests/unit/text/golden_data.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using phi::service::Tokenizer;
  const Tokenizer& tokenizer = phi::service::CodeGenTokenizer();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto ids = tokenizer.Encode(text, {.max_tokens = size});
  PHI_CHECK(ids.ok() == phi::service::IsValidUtf8(text), "the answer to %zu bytes", size);
  if (!ids.ok()) return 0;
  size_t bytes = 0;
  for (const uint32_t id : *ids) {
    PHI_CHECK(id < tokenizer.vocab_size() && id != tokenizer.eos_id(), "id %u", id);
    bytes += tokenizer.TokenBytes(id).size();
  }
  PHI_CHECK(bytes == size, "%zu bytes became %zu", size, bytes);
  PHI_CHECK(*tokenizer.Decode(*ids) == text, "the text did not come back");
  if (ids->empty()) return 0;
  PHI_CHECK(tokenizer.Encode(text, {.max_tokens = ids->size()}).ok(), "refused at its own size");
  PHI_CHECK(!tokenizer.Encode(text, {.max_tokens = ids->size() - 1}).ok(), "one token too many");
  return 0;
}
