#include "shard/checkpoint/safetensors_header.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/quoted.h"
#include "kernels/base/status_macros.h"

namespace phi::shard {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr size_t kMaxRank = 8;

// The dtypes of whole bytes; the packed ones (F4, F6) are in no Phi checkpoint.
constexpr std::array<std::pair<std::string_view, uint64_t>, 16> kDTypes = {{{"BOOL", 1},
                                                                            {"U8", 1},
                                                                            {"I8", 1},
                                                                            {"F8_E5M2", 1},
                                                                            {"F8_E4M3", 1},
                                                                            {"F8_E8M0", 1},
                                                                            {"I16", 2},
                                                                            {"U16", 2},
                                                                            {"F16", 2},
                                                                            {"BF16", 2},
                                                                            {"I32", 4},
                                                                            {"U32", 4},
                                                                            {"F32", 4},
                                                                            {"F64", 8},
                                                                            {"I64", 8},
                                                                            {"U64", 8}}};

std::optional<uint64_t> DTypeSize(std::string_view name) {
  for (const auto& [dtype, bytes] : kDTypes) {
    if (dtype == name) return bytes;
  }
  return std::nullopt;
}

// Walks the header as it is read, so that neither depth nor length of a hostile one costs memory.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool start_object(std::size_t /*elements*/) override {
    switch (place_) {
      case Place::kStart:
        place_ = Place::kTop;
        return true;
      case Place::kTop:
        place_ = entry_.name == "__metadata__" ? Place::kMetadata : Place::kTensor;
        fields_seen_ = {};
        return true;
      default:
        return Fail("an object where none belongs");
    }
  }

  bool key(string_t& name) override {
    if (place_ == Place::kTop) {
      if (!names_.insert(name).second) return Refuse("the key " + Quoted(name) + " comes twice");
      if (names_.size() > kMaxSafetensorsTensors + 1) return Refuse("there are too many tensors");
      entry_ = SafetensorsEntry();
      entry_.name = name;
    } else if (place_ == Place::kTensor) {
      return StartField(name);
    }
    return true;  // what __metadata__ says is nobody's business here
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      if (!std::ranges::all_of(fields_seen_, [](bool seen) { return seen; })) {
        return Fail("dtype, shape and data_offsets are not all there");
      }
      entries_.push_back(std::move(entry_));
    }
    place_ = place_ == Place::kTop ? Place::kEnd : Place::kTop;
    return true;
  }

  bool start_array(std::size_t /*elements*/) override {
    if (place_ != Place::kTensor || field_ == Field::kDtype)
      return Fail("an array where none belongs");
    place_ = Place::kNumbers;
    numbers_.clear();
    return true;
  }

  bool end_array() override {
    place_ = Place::kTensor;
    if (field_ == Field::kShape) {
      entry_.shape.assign(numbers_.begin(), numbers_.end());
      return true;
    }
    if (numbers_.size() != 2) return Fail("data_offsets are not two numbers");
    entry_.begin = static_cast<uint64_t>(numbers_[0]);
    entry_.end = static_cast<uint64_t>(numbers_[1]);
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::kNumbers) return Fail("a number where none belongs");
    if (numbers_.size() == kMaxRank) return Fail("too many numbers in one array");
    if (value > uint64_t{INT64_MAX}) return Fail("a number is too large");
    numbers_.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) return true;
    if (place_ != Place::kTensor || field_ != Field::kDtype)
      return Fail("a string where none belongs");
    if (!DTypeSize(value)) return Fail("the dtype " + Quoted(value) + " is not known");
    entry_.dtype = value;
    return true;
  }

  bool null() override { return Fail("null where none belongs"); }
  bool boolean(bool /*value*/) override { return Fail("a boolean where none belongs"); }
  bool number_integer(number_integer_t /*value*/) override { return Fail("a negative number"); }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override {
    return Fail("a number that is no integer of 64 bits");
  }
  bool binary(binary_t& /*value*/) override { return Fail("binary data"); }
  bool parse_error(std::size_t /*position*/,
                   const std::string& /*token*/,
                   const nlohmann::detail::exception& error) override {
    return Refuse(std::string("is not valid JSON: ") + Quoted(error.what()));
  }

  const std::string& error() const { return error_; }
  std::vector<SafetensorsEntry>& entries() { return entries_; }

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kNumbers, kEnd };
  enum Field : size_t { kDtype, kShape, kDataOffsets, kNumFields };

  bool StartField(const std::string& name) {
    if (name == "dtype") {
      field_ = Field::kDtype;
    } else if (name == "shape") {
      field_ = Field::kShape;
    } else if (name == "data_offsets") {
      field_ = Field::kDataOffsets;
    } else {
      return Fail("the field " + Quoted(name) + " is not known");
    }
    if (std::exchange(fields_seen_[field_], true))
      return Fail("the field " + name + " comes twice");
    return true;
  }

  bool Refuse(std::string error) {
    error_ = std::move(error);
    return false;
  }
  bool Fail(const std::string& what) {
    return Refuse(entry_.name.empty() ? what : "tensor " + Quoted(entry_.name) + ": " + what);
  }

  Place place_ = Place::kStart;
  Field field_ = Field::kDtype;
  std::array<bool, kNumFields> fields_seen_ = {};
  std::vector<int64_t> numbers_;
  SafetensorsEntry entry_;
  std::unordered_set<std::string> names_;
  std::vector<SafetensorsEntry> entries_;
  std::string error_;
};

absl::Status TensorError(const SafetensorsEntry& entry, std::string_view what) {
  return absl::InvalidArgumentError("tensor " + Quoted(entry.name) + ": " + std::string(what));
}

absl::Status CheckSize(const SafetensorsEntry& entry) {
  uint64_t bytes = DTypeSize(entry.dtype).value_or(0);
  for (const int64_t dim : entry.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(dim), &bytes)) {
      return TensorError(entry, "the product of its shape overflows");
    }
  }
  if (entry.end < entry.begin) return TensorError(entry, "its data ends before it begins");
  if (entry.end - entry.begin != bytes) {
    return TensorError(entry,
                       absl::StrCat("data_offsets span ",
                                    entry.end - entry.begin,
                                    " bytes, but dtype and shape make ",
                                    bytes));
  }
  return absl::OkStatus();
}

// `entries` in order of their data, offsets still from the start of the data.
absl::Status CheckCoverage(const std::vector<SafetensorsEntry>& entries, uint64_t data_bytes) {
  uint64_t next = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.end > data_bytes)
      return TensorError(entry, "its data reaches beyond the end of the file");
    if (entry.begin < next) return TensorError(entry, "its data overlaps that of another tensor");
    if (entry.begin > next) return TensorError(entry, "there is a hole before its data");
    next = entry.end;
  }
  if (next != data_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(data_bytes - next, " bytes at its end belong to no tensor"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string_view> HeaderText(std::span<const std::byte> file) {
  if (file.size() < kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("has ", file.size(), " bytes, too few for a safetensors file"));
  }
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) length |= std::to_integer<uint64_t>(file[i]) << (8 * i);
  if (length < 2 || length > kMaxSafetensorsHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the header's length is ",
                                                   length,
                                                   " bytes, not within 2 to ",
                                                   kMaxSafetensorsHeaderBytes,
                                                   ": not a safetensors file?"));
  }
  if (length > file.size() - kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the header's length is ",
                                                   length,
                                                   " bytes, but only ",
                                                   file.size() - kLengthBytes,
                                                   " are there: a cut download?"));
  }
  return std::string_view(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
}

}  // namespace

absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensorsHeader(
    std::span<const std::byte> file) {
  PHI_ASSIGN_OR_RETURN(const std::string_view text, HeaderText(file));
  if (text.front() != '{') return absl::InvalidArgumentError("the header is not a JSON object");
  HeaderReader reader;
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &reader)) {
    return absl::InvalidArgumentError("in the header: " + reader.error());
  }
  std::vector<SafetensorsEntry> entries = std::move(reader.entries());
  for (const SafetensorsEntry& entry : entries) PHI_RETURN_IF_ERROR(CheckSize(entry));
  std::ranges::sort(
      entries, {}, [](const auto& entry) { return std::tie(entry.begin, entry.end, entry.name); });
  const uint64_t data_offset = kLengthBytes + text.size();
  PHI_RETURN_IF_ERROR(CheckCoverage(entries, file.size() - data_offset));
  for (SafetensorsEntry& entry : entries) {
    entry.begin += data_offset;
    entry.end += data_offset;
  }
  return entries;
}

}  // namespace phi::shard
