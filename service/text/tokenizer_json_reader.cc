#include "service/text/tokenizer_json_reader.h"

#include "absl/strings/str_format.h"

namespace phi::service {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxDepth = 16;

// nlohmann's SAX interface fixes the method names and signatures; each returns false to stop.
class Handler : public nlohmann::json_sax<Json> {
 public:
  explicit Handler(RawTokenizerJson& raw) : raw_(raw) {}

  absl::Status TakeStatus() { return std::move(status_); }

  bool null() override { return Scalar(Json()); }
  bool boolean(bool value) override { return Scalar(Json(value)); }
  bool number_integer(number_integer_t value) override { return Scalar(Json(value)); }
  bool number_float(number_float_t value, const string_t&) override { return Scalar(Json(value)); }
  bool binary(binary_t&) override { return Fail("holds binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (table_ == Table::kVocab) {
      raw_.vocab.emplace_back(std::move(key_), value);
      return true;
    }
    return Scalar(Json(value));
  }

  bool string(string_t& value) override {
    if (table_ == Table::kMerges) return MergeString(value);
    return Scalar(Json(std::move(value)));
  }

  bool key(string_t& value) override {
    key_ = std::move(value);
    return true;
  }

  bool start_object(size_t) override {
    if (table_ != Table::kNone) return BadTableEntry();
    if (open_.size() == 2 && InModel() && key_ == "vocab")
      return OpenTable(Table::kVocab, raw_.has_vocab);
    return Open(Json::object());
  }

  bool end_object() override { return Close(); }

  bool start_array(size_t) override {
    if (table_ == Table::kMerges && !in_pair_) {
      in_pair_ = true;
      pair_size_ = 0;
      raw_.merges.emplace_back();
      return true;
    }
    if (table_ != Table::kNone) return BadTableEntry();
    if (open_.size() == 2 && InModel() && key_ == "merges")
      return OpenTable(Table::kMerges, raw_.has_merges);
    return Open(Json::array());
  }

  bool end_array() override {
    if (in_pair_) {
      in_pair_ = false;
      return pair_size_ == 2 || BadTableEntry();
    }
    return Close();
  }

  bool parse_error(size_t position,
                   const std::string&,
                   const nlohmann::detail::exception&) override {
    return Fail(absl::StrFormat("is not valid JSON at byte %d", position));
  }

 private:
  enum class Table { kNone, kVocab, kMerges };

  bool Fail(std::string_view what) {
    status_ = absl::InvalidArgumentError(absl::StrFormat("tokenizer.json %s", what));
    return false;
  }

  bool BadTableEntry() {
    if (table_ == Table::kVocab) return Fail("model.vocab: an id is not an unsigned integer");
    return Fail(absl::StrFormat("model.merges[%d] is neither \"a b\" nor [\"a\", \"b\"]",
                                raw_.merges.empty() ? 0 : raw_.merges.size() - 1));
  }

  bool InModel() const { return open_.back() == model_; }

  bool OpenTable(Table table, bool& seen) {
    if (seen) return Fail(absl::StrFormat("model.%s appears twice", key_));
    seen = true;
    table_ = table;
    return true;
  }

  // Where the next value goes, or nullptr if its key is there already.
  Json* Place(Json value) {
    if (open_.empty()) return &(raw_.config = std::move(value));
    Json& parent = *open_.back();
    if (parent.is_array()) return &parent.emplace_back(std::move(value));
    const auto [entry, is_new] = parent.emplace(key_, std::move(value));
    return is_new ? &*entry : nullptr;
  }

  bool Scalar(Json value) {
    if (table_ != Table::kNone) return BadTableEntry();
    return Place(std::move(value)) != nullptr || Duplicate();
  }

  bool Duplicate() { return Fail("has a key twice in one object"); }

  bool Open(Json container) {
    if (open_.size() == kMaxDepth) return Fail("is nested too deeply");
    const bool is_model = open_.size() == 1 && open_.back()->is_object() && key_ == "model";
    Json* placed = Place(std::move(container));
    if (placed == nullptr) return Duplicate();
    // An element of an array moves when the array grows, but it is closed before that.
    open_.push_back(placed);
    if (is_model && placed->is_object()) model_ = placed;
    return true;
  }

  bool Close() {
    if (table_ != Table::kNone) {
      table_ = Table::kNone;
    } else {
      open_.pop_back();
    }
    return true;
  }

  bool MergeString(std::string& value) {
    if (in_pair_) {
      if (pair_size_ == 2) return BadTableEntry();
      auto& [left, right] = raw_.merges.back();
      (pair_size_++ == 0 ? left : right) = std::move(value);
      return true;
    }
    // Hugging Face skips the first line of an old merges.txt wherever it stands.
    if (value.starts_with("#version")) return true;
    const size_t space = value.find(' ');
    raw_.merges.emplace_back();
    if (space == std::string::npos || value.find(' ', space + 1) != std::string::npos) {
      return BadTableEntry();
    }
    raw_.merges.back() = {value.substr(0, space), value.substr(space + 1)};
    return true;
  }

  RawTokenizerJson& raw_;
  absl::Status status_;
  std::vector<Json*> open_;  // the containers around the next value, outermost first
  const Json* model_ = nullptr;
  std::string key_;
  Table table_ = Table::kNone;
  bool in_pair_ = false;
  int pair_size_ = 0;
};

}  // namespace

absl::StatusOr<RawTokenizerJson> ReadRawTokenizerJson(std::string_view json) {
  RawTokenizerJson raw;
  Handler handler(raw);
  if (!Json::sax_parse(json.begin(), json.end(), &handler)) return handler.TakeStatus();
  return raw;
}

}  // namespace phi::service
