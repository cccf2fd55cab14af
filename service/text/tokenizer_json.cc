#include "service/text/tokenizer_json.h"

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"
#include "kernels/base/quoted.h"
#include "kernels/base/status_macros.h"
#include "service/text/tokenizer_json_reader.h"

namespace phi::service {
namespace {

using Json = nlohmann::json;

absl::Status Refused(std::string_view field, std::string_view why) {
  return absl::InvalidArgumentError(absl::StrFormat("tokenizer.json %s %s", field, why));
}

// A field of an object with the name that errors use for it.
struct Field {
  const Json* value = nullptr;  // nullptr: absent
  std::string path;

  bool IsAbsentOrNull() const { return value == nullptr || value->is_null(); }
  bool IsAbsentOr(const Json& expected) const { return value == nullptr || *value == expected; }
};

// The fields of one object. Unknown names are refused, because a field that this reader has never
// heard of may change the tokens.
class Fields {
 public:
  static absl::StatusOr<Fields> Of(const Field& object, std::initializer_list<const char*> known) {
    if (object.value == nullptr) return Refused(object.path, "is missing");
    if (!object.value->is_object()) return Refused(object.path, "is not an object");
    const std::set<std::string> names(known.begin(), known.end());
    for (const auto& [name, value] : object.value->items()) {
      if (!names.contains(name))
        return Refused(Path(object, Quoted(name)), "is not a field that is served");
    }
    return Fields(object);
  }

  Field Get(const std::string& name) const {
    const auto found = object_.value->find(name);
    const Json* value = found == object_.value->end() ? nullptr : &*found;
    return {.value = value, .path = Path(object_, name)};
  }

  // Refuses any value but `expected`; an absent field counts as `expected`.
  absl::Status Require(const std::string& name, const Json& expected) const {
    if (const Field field = Get(name); !field.IsAbsentOr(expected)) {
      return Refused(field.path, absl::StrFormat("is served only as %s", expected.dump()));
    }
    return absl::OkStatus();
  }

  absl::Status RequireNull(const std::string& name) const { return Require(name, Json()); }

 private:
  explicit Fields(Field object) : object_(std::move(object)) {}

  static std::string Path(const Field& object, const std::string& name) {
    return object.path.empty() ? name : object.path + "." + name;
  }

  Field object_;
};

absl::Status CheckByteLevel(const Field& field) {
  PHI_ASSIGN_OR_RETURN(
      const Fields fields,
      Fields::Of(field, {"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  const Field type = fields.Get("type");
  if (type.value == nullptr || *type.value != "ByteLevel") {
    return Refused(type.path, "is served only as \"ByteLevel\"");
  }
  return absl::OkStatus();
}

absl::Status CheckPreTokenizer(const Field& field) {
  PHI_RETURN_IF_ERROR(CheckByteLevel(field));
  PHI_ASSIGN_OR_RETURN(
      const Fields fields,
      Fields::Of(field, {"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  const Field prefix_space = fields.Get("add_prefix_space");
  if (prefix_space.value == nullptr || *prefix_space.value != false) {
    return Refused(prefix_space.path, "is served only as false");
  }
  return fields.Require("use_regex", true);
}

absl::Status CheckModel(const Field& field) {
  // The reader takes well-typed tables out of the object.
  if (field.value != nullptr && field.value->is_object()) {
    if (field.value->contains("vocab")) return Refused("model.vocab", "is not an object");
    if (field.value->contains("merges")) return Refused("model.merges", "is not an array");
  }
  PHI_ASSIGN_OR_RETURN(const Fields model,
                       Fields::Of(field,
                                  {"type",
                                   "dropout",
                                   "unk_token",
                                   "continuing_subword_prefix",
                                   "end_of_word_suffix",
                                   "fuse_unk",
                                   "byte_fallback",
                                   "ignore_merges"}));
  PHI_RETURN_IF_ERROR(model.Require("type", "BPE"));
  PHI_RETURN_IF_ERROR(model.RequireNull("dropout"));
  PHI_RETURN_IF_ERROR(model.Require("byte_fallback", false));
  PHI_RETURN_IF_ERROR(model.Require("ignore_merges", false));
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const Field affix = model.Get(name);
    if (!affix.IsAbsentOrNull() && *affix.value != "") {
      return Refused(affix.path, "is served only as null or \"\"");
    }
  }
  // unk_token and fuse_unk have no effect: every byte is in the vocabulary, or bpe.cc refuses it.
  return absl::OkStatus();
}

// The tables in id order. A number in the file is compared with the table's length, never
// allocated.
absl::Status FillVocab(RawTokenizerJson& raw, TokenizerSpec& spec) {
  if (!raw.has_vocab || raw.vocab.empty()) return Refused("model.vocab", "is missing or empty");
  if (!raw.has_merges) return Refused("model.merges", "is missing");
  spec.vocab.resize(raw.vocab.size());
  std::vector<bool> taken(raw.vocab.size());
  for (auto& [token, id] : raw.vocab) {
    if (token.empty()) return Refused("model.vocab", "holds an empty token");
    if (id >= taken.size()) {
      return Refused("model.vocab",
                     absl::StrFormat("has id %d, but only %d tokens", id, taken.size()));
    }
    if (taken[id]) return Refused("model.vocab", absl::StrFormat("has id %d twice", id));
    taken[id] = true;
    spec.vocab[id] = std::move(token);
  }
  spec.merges = std::move(raw.merges);
  return absl::OkStatus();
}

absl::StatusOr<bool> GetBool(const Fields& fields, const std::string& name) {
  const Field field = fields.Get(name);
  if (field.value == nullptr || !field.value->is_boolean())
    return Refused(field.path, "is not a bool");
  return field.value->get<bool>();
}

absl::StatusOr<AddedToken> ParseAddedToken(const Field& field) {
  PHI_ASSIGN_OR_RETURN(
      const Fields fields,
      Fields::Of(field,
                 {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}));
  for (const char* name : {"single_word", "lstrip", "rstrip"}) {
    PHI_ASSIGN_OR_RETURN(const bool value, GetBool(fields, name));
    if (value) return Refused(fields.Get(name).path, "is served only as false");
  }
  AddedToken token;
  const Field id = fields.Get("id");
  if (id.value == nullptr || !id.value->is_number_unsigned() ||
      id.value->get<uint64_t>() > UINT32_MAX) {
    return Refused(id.path, "is not a token id");
  }
  token.id = id.value->get<uint32_t>();
  const Field content = fields.Get("content");
  if (content.value == nullptr || !content.value->is_string() || *content.value == "") {
    return Refused(content.path, "is not a text of at least one byte");
  }
  token.content = content.value->get<std::string>();
  PHI_ASSIGN_OR_RETURN(token.special, GetBool(fields, "special"));
  PHI_ASSIGN_OR_RETURN(token.normalized, GetBool(fields, "normalized"));
  return token;
}

using VocabIndex = absl::flat_hash_map<std::string_view, size_t>;

absl::StatusOr<VocabIndex> IndexVocab(const std::vector<std::string>& vocab) {
  VocabIndex ids;
  ids.reserve(vocab.size());
  for (size_t id = 0; id < vocab.size(); ++id) {
    const auto [entry, is_new] = ids.emplace(vocab[id], id);
    if (!is_new) {
      return Refused("model.vocab",
                     absl::StrFormat("has one token under ids %d and %d", entry->second, id));
    }
  }
  return ids;
}

// Hugging Face gives an added token the vocabulary's id for its content, else the next free one,
// whatever the file says; a file that says otherwise would mean two things.
absl::Status FillAddedTokens(const Field& field, TokenizerSpec& spec) {
  PHI_ASSIGN_OR_RETURN(const VocabIndex vocab_ids, IndexVocab(spec.vocab));
  if (field.IsAbsentOrNull()) return absl::OkStatus();
  if (!field.value->is_array()) return Refused(field.path, "is not an array");
  std::set<std::string> contents;
  size_t next_id = spec.vocab.size();
  for (size_t i = 0; i < field.value->size(); ++i) {
    const Field entry{.value = &(*field.value)[i],
                      .path = absl::StrFormat("%s[%d]", field.path, i)};
    PHI_ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(entry));
    if (!contents.insert(token.content).second)
      return Refused(entry.path, "has a content seen before");
    const auto in_vocab = vocab_ids.find(token.content);
    const size_t expected_id = in_vocab == vocab_ids.end() ? next_id++ : in_vocab->second;
    if (token.id != expected_id) {
      return Refused(entry.path,
                     absl::StrFormat("has id %d where %d follows", token.id, expected_id));
    }
    spec.added_tokens.push_back(std::move(token));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerSpec> ParseTokenizerJson(std::string_view json) {
  PHI_ASSIGN_OR_RETURN(RawTokenizerJson raw, ReadRawTokenizerJson(json));
  PHI_ASSIGN_OR_RETURN(const Fields top,
                       Fields::Of({.value = &raw.config, .path = ""},
                                  {"version",
                                   "truncation",
                                   "padding",
                                   "added_tokens",
                                   "normalizer",
                                   "pre_tokenizer",
                                   "post_processor",
                                   "decoder",
                                   "model"}));
  PHI_RETURN_IF_ERROR(top.Require("version", "1.0"));
  for (const char* name : {"truncation", "padding", "normalizer"}) {
    PHI_RETURN_IF_ERROR(top.RequireNull(name));
  }
  PHI_RETURN_IF_ERROR(CheckPreTokenizer(top.Get("pre_tokenizer")));
  PHI_RETURN_IF_ERROR(CheckByteLevel(top.Get("decoder")));
  // The ByteLevel post-processor only moves offsets, which are not served.
  if (const Field post = top.Get("post_processor"); !post.IsAbsentOrNull()) {
    PHI_RETURN_IF_ERROR(CheckByteLevel(post));
  }
  PHI_RETURN_IF_ERROR(CheckModel(top.Get("model")));
  TokenizerSpec spec;
  PHI_RETURN_IF_ERROR(FillVocab(raw, spec));
  PHI_RETURN_IF_ERROR(FillAddedTokens(top.Get("added_tokens"), spec));
  return spec;
}

}  // namespace phi::service
