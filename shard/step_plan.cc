#include "shard/step_plan.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <type_traits>

#include "absl/strings/str_format.h"
#include "kernels/backend.h"
#include "kernels/base/status_macros.h"

namespace phi::shard {
namespace {

static_assert(std::endian::native == std::endian::little,
              "plans are written as they lie in memory");

// Layout, little-endian and without padding:
//   header    magic, version, epoch (8), step (8), number of tokens, number of sequences
//   tokens    4 bytes each
//   sequence  num_tokens, first_position, number of blocks, flags, temperature, top_k, top_p,
//   min_p, seed (8),
//             sample_index, num_top_logprobs, then 4 bytes a block
// where everything without a size takes 4 bytes.
constexpr uint32_t kMagic = 0x4e4c5050;  // "PPLN"
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 4 + 4 + 8 + 8 + 4 + 4;
constexpr size_t kSequenceBytes = 4 * 10 + 8;

enum Flags : uint32_t { kSample = 1, kWantLogprobs = 2, kMaskEos = 4, kAllFlags = 7 };

template <typename T>
concept PlainValue = std::is_arithmetic_v<T>;

class Writer {
 public:
  explicit Writer(size_t bytes) { bytes_.reserve(bytes); }

  template <PlainValue... T>
  void Put(T... values) {
    (Append(&values, sizeof(values)), ...);
  }
  void PutAll(std::span<const uint32_t> values) { Append(values.data(), values.size_bytes()); }

  std::vector<std::byte> Take() && { return std::move(bytes_); }

 private:
  void Append(const void* data, size_t bytes) {
    const auto* begin = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), begin, begin + bytes);
  }

  std::vector<std::byte> bytes_;
};

// The caller looks at remaining() before it takes.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  size_t remaining() const { return bytes_.size(); }

  template <PlainValue... T>
  void Take(T&... values) {
    (TakeBytes(&values, sizeof(values)), ...);
  }
  std::vector<uint32_t> TakeAll(size_t count) {
    std::vector<uint32_t> values(count);
    TakeBytes(values.data(), count * sizeof(uint32_t));
    return values;
  }

 private:
  void TakeBytes(void* to, size_t bytes) {
    if (bytes == 0) return;
    std::memcpy(to, bytes_.data(), bytes);
    bytes_ = bytes_.subspan(bytes);
  }

  std::span<const std::byte> bytes_;
};

absl::Status Malformed(const char* what) {
  return absl::InvalidArgumentError(absl::StrFormat("malformed step plan: %s", what));
}

void EncodeSequence(const PlannedSequence& sequence, Writer& writer) {
  const SamplingParams& sampling = sequence.sampling;
  const uint32_t flags = (sequence.sample ? kSample : 0U) |
                         (sampling.want_logprobs ? kWantLogprobs : 0U) |
                         (sampling.mask_eos ? kMaskEos : 0U);
  writer.Put(sequence.num_tokens,
             sequence.first_position,
             static_cast<uint32_t>(sequence.block_ids.size()),
             flags,
             sampling.temperature,
             sampling.top_k,
             sampling.top_p,
             sampling.min_p,
             sampling.seed,
             sampling.sample_index,
             sampling.num_top_logprobs);
  writer.PutAll(sequence.block_ids);
}

absl::StatusOr<PlannedSequence> DecodeSequence(Reader& reader) {
  if (reader.remaining() < kSequenceBytes) return Malformed("it ends within a sequence");
  PlannedSequence sequence;
  SamplingParams& sampling = sequence.sampling;
  uint32_t num_blocks = 0;
  uint32_t flags = 0;
  reader.Take(sequence.num_tokens,
              sequence.first_position,
              num_blocks,
              flags,
              sampling.temperature,
              sampling.top_k,
              sampling.top_p,
              sampling.min_p,
              sampling.seed,
              sampling.sample_index,
              sampling.num_top_logprobs);
  if ((flags & ~uint32_t{kAllFlags}) != 0) return Malformed("unknown flags");
  if (num_blocks > reader.remaining() / sizeof(uint32_t))
    return Malformed("more blocks than bytes");
  sequence.sample = (flags & kSample) != 0;
  sampling.want_logprobs = (flags & kWantLogprobs) != 0;
  sampling.mask_eos = (flags & kMaskEos) != 0;
  sequence.block_ids = reader.TakeAll(num_blocks);
  return sequence;
}

absl::Status ValidateSampling(const SamplingParams& sampling, uint32_t vocab_size) {
  // Written so that NaN fails.
  const bool temperature_ok = sampling.temperature >= 0.0F && std::isfinite(sampling.temperature);
  const bool top_p_ok = sampling.top_p > 0.0F && sampling.top_p <= 1.0F;
  const bool min_p_ok = sampling.min_p >= 0.0F && sampling.min_p <= 1.0F;
  if (!temperature_ok || !top_p_ok || !min_p_ok) {
    return absl::InvalidArgumentError(
        absl::StrFormat("temperature %g, top_p %g or min_p %g is out of range",
                        sampling.temperature,
                        sampling.top_p,
                        sampling.min_p));
  }
  if (sampling.top_k > vocab_size || sampling.num_top_logprobs > kTopLogprobsMax) {
    return absl::InvalidArgumentError(absl::StrFormat("top_k %u of %u or num_top_logprobs %u of %u",
                                                      sampling.top_k,
                                                      vocab_size,
                                                      sampling.num_top_logprobs,
                                                      kTopLogprobsMax));
  }
  return absl::OkStatus();
}

absl::Status ValidateSequence(const PlannedSequence& sequence, const PlanLimits& limits) {
  const uint64_t end = uint64_t{sequence.first_position} + sequence.num_tokens;
  if (sequence.num_tokens == 0 || end > limits.max_positions) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%u tokens from position %u: at least one, within %u positions",
                        sequence.num_tokens,
                        sequence.first_position,
                        limits.max_positions));
  }
  constexpr uint64_t kBlock = kernels::kKvBlockTokens;
  const uint64_t blocks_needed = (end + kBlock - 1) / kBlock;
  if (sequence.block_ids.size() != blocks_needed) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%d KV blocks for %d positions, which take %d",
                        sequence.block_ids.size(),
                        end,
                        blocks_needed));
  }
  for (const uint32_t block_id : sequence.block_ids) {
    if (block_id >= limits.num_blocks) {
      return absl::InvalidArgumentError(
          absl::StrFormat("KV block %u of %u", block_id, limits.num_blocks));
    }
  }
  return ValidateSampling(sequence.sampling, limits.vocab_size);
}

}  // namespace

std::vector<std::byte> EncodeStepPlan(const StepPlan& plan) {
  size_t bytes = kHeaderBytes + plan.token_ids.size() * sizeof(uint32_t);
  for (const PlannedSequence& sequence : plan.sequences) {
    bytes += kSequenceBytes + sequence.block_ids.size() * sizeof(uint32_t);
  }
  Writer writer(bytes);
  writer.Put(kMagic,
             kVersion,
             plan.epoch,
             plan.step,
             static_cast<uint32_t>(plan.token_ids.size()),
             static_cast<uint32_t>(plan.sequences.size()));
  writer.PutAll(plan.token_ids);
  for (const PlannedSequence& sequence : plan.sequences) EncodeSequence(sequence, writer);
  return std::move(writer).Take();
}

absl::StatusOr<StepPlan> DecodeStepPlan(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  if (reader.remaining() < kHeaderBytes) return Malformed("it ends within the header");
  StepPlan plan;
  uint32_t magic = 0;
  uint32_t version = 0;
  uint32_t num_tokens = 0;
  uint32_t num_sequences = 0;
  reader.Take(magic, version, plan.epoch, plan.step, num_tokens, num_sequences);
  if (magic != kMagic) return Malformed("it is none");
  if (version != kVersion) return Malformed("another version");
  if (num_tokens > reader.remaining() / sizeof(uint32_t))
    return Malformed("more tokens than bytes");
  plan.token_ids = reader.TakeAll(num_tokens);
  if (num_sequences > reader.remaining() / kSequenceBytes)
    return Malformed("more sequences than bytes");
  plan.sequences.reserve(num_sequences);
  for (uint32_t i = 0; i < num_sequences; ++i) {
    PHI_ASSIGN_OR_RETURN(PlannedSequence sequence, DecodeSequence(reader));
    plan.sequences.push_back(std::move(sequence));
  }
  if (reader.remaining() != 0) return Malformed("bytes after its end");
  return plan;
}

absl::Status ValidateStepPlan(const StepPlan& plan, const PlanLimits& limits) {
  if (plan.sequences.size() > limits.max_sequences ||
      plan.token_ids.size() > limits.max_step_tokens) {
    return absl::InvalidArgumentError(
        absl::StrFormat("step of %d sequences and %d tokens; at most %u and %u",
                        plan.sequences.size(),
                        plan.token_ids.size(),
                        limits.max_sequences,
                        limits.max_step_tokens));
  }
  uint64_t num_tokens = 0;
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    if (absl::Status status = ValidateSequence(plan.sequences[i], limits); !status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("step plan, sequence %d: %s", i, std::string(status.message())));
    }
    num_tokens += plan.sequences[i].num_tokens;
  }
  if (num_tokens != plan.token_ids.size()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "sequences of %d tokens over %d token ids", num_tokens, plan.token_ids.size()));
  }
  for (const uint32_t token_id : plan.token_ids) {
    if (token_id >= limits.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrFormat("token id %u of %u", token_id, limits.vocab_size));
    }
  }
  return absl::OkStatus();
}

}  // namespace phi::shard
