#include "shard/step_plan.h"

#include <bit>
#include <cstring>
#include <type_traits>

#include "absl/strings/str_format.h"
#include "kernels/backend.h"
#include "kernels/base/status_macros.h"

namespace phi::shard {
namespace {

static_assert(std::endian::native == std::endian::little,
              "plans are written as they lie in memory");

// Layout, little-endian and without padding:
//   header    magic, version, epoch (8), step (8), number of tokens, of sequences
//             and of block copies
//   tokens    4 bytes each
//   copies    from, to
//   sequence  num_tokens, first_position, num_draws, num_prompt_tokens, number of blocks, of
//   history
//             tokens and of biased tokens, flags, temperature, top_k, top_p, min_p, seed (8),
//             sample_index, num_top_logprobs, repetition, frequency and presence penalty, then the
//             blocks and the history, 4 bytes each, and the biases: token_id, bias
// where everything without a size takes 4 bytes.
constexpr uint32_t kMagic = 0x4e4c5050;  // "PPLN"
constexpr uint32_t kVersion = 2;
constexpr size_t kHeaderBytes = 4 + 4 + 8 + 8 + 4 + 4 + 4;
constexpr size_t kSequenceBytes = 4 * 17 + 8;

enum Flags : uint32_t { kWantLogprobs = 1, kMaskEos = 2, kAllFlags = 3 };

template <typename T>
concept PlainValue = std::is_arithmetic_v<T>;

// What lies in memory as it is written: numbers of 4 bytes, one after the other.
template <typename T>
concept PlainRow = std::is_trivially_copyable_v<T> && alignof(T) == 4;
static_assert(sizeof(BlockCopy) == 8 && sizeof(LogitBias) == 8);

class Writer {
 public:
  explicit Writer(size_t bytes) { bytes_.reserve(bytes); }

  template <PlainValue... T>
  void Put(T... values) {
    (Append(&values, sizeof(values)), ...);
  }
  template <PlainRow T>
  void PutAll(const std::vector<T>& values) {
    Append(values.data(), values.size() * sizeof(T));
  }

  std::vector<std::byte> Take() && { return std::move(bytes_); }

 private:
  void Append(const void* data, size_t bytes) {
    const auto* begin = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), begin, begin + bytes);
  }

  std::vector<std::byte> bytes_;
};

// The caller looks at remaining() before it takes single values.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  size_t remaining() const { return bytes_.size(); }

  template <PlainValue... T>
  void Take(T&... values) {
    (TakeBytes(&values, sizeof(values)), ...);
  }
  // False, and nothing is taken, where fewer than `count` are left.
  template <PlainRow T>
  bool TakeAll(uint32_t count, std::vector<T>& values) {
    if (count > remaining() / sizeof(T)) return false;
    values.resize(count);
    TakeBytes(values.data(), count * sizeof(T));
    return true;
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

uint32_t CountOf(const auto& values) { return static_cast<uint32_t>(values.size()); }

void EncodeSequence(const PlannedSequence& sequence, Writer& writer) {
  const SamplingParams& sampling = sequence.sampling;
  const uint32_t flags =
      (sampling.want_logprobs ? kWantLogprobs : 0U) | (sampling.mask_eos ? kMaskEos : 0U);
  writer.Put(sequence.num_tokens,
             sequence.first_position,
             sequence.num_draws,
             sequence.num_prompt_tokens,
             CountOf(sequence.block_ids),
             CountOf(sequence.history),
             CountOf(sampling.logit_bias),
             flags,
             sampling.temperature,
             sampling.top_k,
             sampling.top_p,
             sampling.min_p,
             sampling.seed,
             sampling.sample_index,
             sampling.num_top_logprobs,
             sampling.repetition_penalty,
             sampling.frequency_penalty,
             sampling.presence_penalty);
  writer.PutAll(sequence.block_ids);
  writer.PutAll(sequence.history);
  writer.PutAll(sampling.logit_bias);
}

absl::StatusOr<PlannedSequence> DecodeSequence(Reader& reader) {
  if (reader.remaining() < kSequenceBytes) return Malformed("it ends within a sequence");
  PlannedSequence sequence;
  SamplingParams& sampling = sequence.sampling;
  uint32_t num_blocks = 0;
  uint32_t num_history = 0;
  uint32_t num_biases = 0;
  uint32_t flags = 0;
  reader.Take(sequence.num_tokens,
              sequence.first_position,
              sequence.num_draws,
              sequence.num_prompt_tokens,
              num_blocks,
              num_history,
              num_biases,
              flags,
              sampling.temperature,
              sampling.top_k,
              sampling.top_p,
              sampling.min_p,
              sampling.seed,
              sampling.sample_index,
              sampling.num_top_logprobs,
              sampling.repetition_penalty,
              sampling.frequency_penalty,
              sampling.presence_penalty);
  if ((flags & ~uint32_t{kAllFlags}) != 0) return Malformed("unknown flags");
  sampling.want_logprobs = (flags & kWantLogprobs) != 0;
  sampling.mask_eos = (flags & kMaskEos) != 0;
  if (!reader.TakeAll(num_blocks, sequence.block_ids)) return Malformed("more blocks than bytes");
  if (!reader.TakeAll(num_history, sequence.history)) return Malformed("more history than bytes");
  if (!reader.TakeAll(num_biases, sampling.logit_bias)) return Malformed("more biases than bytes");
  return sequence;
}

}  // namespace

size_t MaxStepPlanBytes(const PlanLimits& limits) {
  const size_t positions = limits.max_positions;
  const size_t sequence_words = kernels::NumKvBlocks(positions) + positions;
  return kHeaderBytes + limits.max_step_tokens * sizeof(uint32_t) +
         limits.max_sequences *
             (sizeof(BlockCopy) + kSequenceBytes + sequence_words * sizeof(uint32_t) +
              kLogitBiasMax * sizeof(LogitBias));
}

std::vector<std::byte> EncodeStepPlan(const StepPlan& plan) {
  size_t bytes = kHeaderBytes + plan.token_ids.size() * sizeof(uint32_t) +
                 plan.block_copies.size() * sizeof(BlockCopy);
  for (const PlannedSequence& sequence : plan.sequences) {
    bytes += kSequenceBytes +
             (sequence.block_ids.size() + sequence.history.size()) * sizeof(uint32_t) +
             sequence.sampling.logit_bias.size() * sizeof(LogitBias);
  }
  Writer writer(bytes);
  writer.Put(kMagic,
             kVersion,
             plan.epoch,
             plan.step,
             CountOf(plan.token_ids),
             CountOf(plan.sequences),
             CountOf(plan.block_copies));
  writer.PutAll(plan.token_ids);
  writer.PutAll(plan.block_copies);
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
  uint32_t num_copies = 0;
  reader.Take(magic, version, plan.epoch, plan.step, num_tokens, num_sequences, num_copies);
  if (magic != kMagic) return Malformed("it is none");
  if (version != kVersion) return Malformed("another version");
  if (!reader.TakeAll(num_tokens, plan.token_ids)) return Malformed("more tokens than bytes");
  if (!reader.TakeAll(num_copies, plan.block_copies)) return Malformed("more copies than bytes");
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

}  // namespace phi::shard
