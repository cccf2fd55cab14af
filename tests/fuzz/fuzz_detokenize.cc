// Any tokens through a TextStream with any stops: deltas are whole characters, joined they are the
// whole decode up to the stop that a look at the whole finds, every token is counted once, and
// nothing depends on how the same bytes are cut into tokens.

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/check.h"
#include "service/text/text_stream.h"
#include "service/text/utf8.h"
#include "tests/unit/text/golden_data.h"
#include "tests/unit/text/stop_reference.h"

namespace {

using phi::service::CodeGenTokenizer;
using phi::service::IsValidUtf8;
using phi::service::StopCondition;
using phi::service::StopRules;
using phi::service::TextDelta;
using phi::service::TextStream;

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  bool empty() const { return size_ == 0; }

  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }

  std::string Text(size_t length) {
    std::string text;
    while (length-- > 0 && size_ > 0) text.push_back(static_cast<char>(Byte()));
    return phi::service::DecodeUtf8Lossy(text);
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

StopRules ReadRules(Input& input) {
  StopRules rules;
  for (int n = input.Byte() % 4; n > 0; --n) {
    std::string stop = input.Text(1 + input.Byte() % 8);
    if (!stop.empty()) rules.strings.push_back(std::move(stop));
  }
  const unsigned flags = input.Byte();
  for (int condition = 1; condition <= 4; ++condition) {
    if ((flags >> condition & 1) != 0) rules.conditions.push_back(StopCondition{condition});
  }
  rules.include_stop = (flags & 1) != 0;
  rules.min_new_tokens = (flags & 0x20) != 0 ? input.Byte() : 0;
  return rules;
}

struct Outcome {
  std::string text;
  bool stopped = false;
};

Outcome Run(const std::vector<uint32_t>& ids, const StopRules& rules, std::string_view prompt) {
  TextStream stream(CodeGenTokenizer(), rules, prompt);
  Outcome outcome;
  size_t counted = 0;
  const auto take = [&](const TextDelta& delta) {
    PHI_CHECK(IsValidUtf8(delta.text), "half a character");
    outcome.text += delta.text;
    outcome.stopped |= delta.stop.has_value();
    counted += delta.tokens;
  };
  for (size_t i = 0; i < ids.size() && !stream.ended(); ++i) take(*stream.Append(ids[i]));
  take(stream.Finish());
  PHI_CHECK(counted == stream.generated_tokens(), "%zu tokens counted", counted);
  return outcome;
}

// The text up to the first stop, searched for in the whole.
std::string CutByReference(const std::string& whole,
                           const StopRules& rules,
                           std::string_view prompt) {
  const auto stop = phi::service::FirstStop(prompt, whole, rules, [](size_t) { return true; });
  if (!stop) return whole;
  return whole.substr(0, rules.include_stop ? stop->span.end : stop->span.begin);
}

// The same bytes as single-byte tokens.
std::vector<uint32_t> ByteTokens(const std::vector<uint32_t>& ids) {
  static const std::vector<uint32_t> byte_ids = [] {
    std::vector<uint32_t> found(256);
    for (uint32_t id = 0; id < 256; ++id) {
      found[static_cast<unsigned char>(CodeGenTokenizer().TokenBytes(id).front())] = id;
    }
    return found;
  }();
  std::vector<uint32_t> bytes;
  for (const uint32_t id : ids) {
    for (const char byte : CodeGenTokenizer().TokenBytes(id)) {
      bytes.push_back(byte_ids[static_cast<unsigned char>(byte)]);
    }
  }
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  StopRules rules = ReadRules(input);
  const std::string prompt = input.Text(input.Byte() % 32);
  std::vector<uint32_t> ids;
  while (!input.empty()) {
    const uint32_t id = input.Byte();
    const uint32_t row = input.Byte() % 4 == 0 ? input.Byte() * 256U + id : id;
    ids.push_back(std::min(row, CodeGenTokenizer().vocab_size() - 1));
  }
  const Outcome outcome = Run(ids, rules, prompt);
  const std::string whole = *CodeGenTokenizer().Decode(ids);
  PHI_CHECK(outcome.stopped || outcome.text == whole, "not the whole decode");
  PHI_CHECK(std::string_view(whole).starts_with(outcome.text), "not the beginning of the decode");
  // min_new_tokens counts tokens, so only without it must the cut be the same.
  rules.min_new_tokens = 0;
  const Outcome in_tokens = Run(ids, rules, prompt);
  const Outcome in_bytes = Run(ByteTokens(ids), rules, prompt);
  PHI_CHECK(in_tokens.text == in_bytes.text, "the cut depends on the tokens");
  PHI_CHECK(in_tokens.stopped == in_bytes.stopped, "the stop depends on the tokens");
  PHI_CHECK(in_tokens.text == CutByReference(whole, rules, prompt), "not the first stop");
  return 0;
}
