#include "service/api/generation_parameters.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include "google/protobuf/descriptor.h"
#include "google/protobuf/unknown_field_set.h"
#include "service/api/error.h"

namespace phi::service {
namespace {

using google::protobuf::FieldDescriptor;
using Message = phi::v1::GenerationParameters;

constexpr ModelLimits kModel{.context_tokens = 2048,
                             .vocabulary_tokens = 50295,
                             .eos_token_id = 50256,
                             .max_time_limit_seconds = 600};

const FieldDescriptor& FieldOf(const FieldLimitRow& row) {
  return *Message::descriptor()->FindFieldByName(std::string(row.field.substr(11)));
}

// A message in which only the row's field is set, so that its number is `value`.
Message WithValue(const FieldLimitRow& row, double value) {
  Message message;
  const auto& reflection = *Message::GetReflection();
  const FieldDescriptor& field = FieldOf(row);
  if (row.kind == FieldLimitRow::Kind::kSeconds) {
    const double whole = std::floor(value);
    message.mutable_time_limit()->set_seconds(static_cast<int64_t>(whole));
    message.mutable_time_limit()->set_nanos(
        static_cast<int32_t>(std::lround((value - whole) * 1e9)));
  } else if (field.is_map()) {
    (*message.mutable_logit_bias())[1] = static_cast<float>(value);
  } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
    message.add_stop(std::string(static_cast<size_t>(value), 'x'));
  } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    reflection.AddEnumValue(&message, &field, static_cast<int>(value));
  } else if (field.is_repeated()) {
    reflection.AddUInt32(&message, &field, static_cast<uint32_t>(value));
  } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_FLOAT) {
    reflection.SetFloat(&message, &field, static_cast<float>(value));
  } else {
    reflection.SetUInt32(&message, &field, static_cast<uint32_t>(value));
  }
  return message;
}

// The nearest values of the field's type.
double Below(const FieldLimitRow& row, double value) {
  const FieldDescriptor& field = FieldOf(row);
  if (row.kind == FieldLimitRow::Kind::kSeconds) return value - 0.001;
  const bool is_float = field.cpp_type() == FieldDescriptor::CPPTYPE_FLOAT || field.is_map();
  return is_float ? std::nextafter(static_cast<float>(value), -1e30F) : value - 1;
}
double Above(const FieldLimitRow& row, double value) {
  const FieldDescriptor& field = FieldOf(row);
  if (row.kind == FieldLimitRow::Kind::kSeconds) return value + 0.001;
  const bool is_float = field.cpp_type() == FieldDescriptor::CPPTYPE_FLOAT || field.is_map();
  return is_float ? std::nextafter(static_cast<float>(value), 1e30F) : value + 1;
}

struct Refusal {
  std::string reason, field;
  friend bool operator==(const Refusal&, const Refusal&) = default;
  friend void PrintTo(const Refusal& refusal, std::ostream* out) {
    *out << refusal.reason << " " << refusal.field;
  }
};

// Empty reason: accepted.
Refusal Check(const Message& message) {
  const auto result = ParseGenerationParameters(message, kModel);
  if (result.ok()) return {};
  const auto details = GetErrorDetails(result.status());
  if (!details.has_value()) return {"no details", ""};
  return {std::string(ErrorReasonInfo(details->reason).name), details->field};
}

class EachLimit : public ::testing::TestWithParam<size_t> {
 protected:
  const FieldLimitRow row_ = FieldLimits(kModel)[GetParam()];
  const std::string field_{row_.field};
  // How this row's breach is named.
  std::string Reason() const {
    if (row_.field == "parameters.stop_token_ids") return "TOKEN_ID_OUT_OF_RANGE";
    if (row_.field == "parameters.stop_conditions") return "UNSUPPORTED_FIELD";
    return "FIELD_OUT_OF_RANGE";
  }
};

TEST_P(EachLimit, BothSidesOfMax) {
  EXPECT_EQ(Check(WithValue(row_, row_.max)), Refusal{});
  EXPECT_EQ(Check(WithValue(row_, Above(row_, row_.max))), (Refusal{Reason(), field_}));
}

TEST_P(EachLimit, BothSidesOfMin) {
  if (row_.min_exclusive) {
    EXPECT_EQ(Check(WithValue(row_, row_.min)), (Refusal{Reason(), field_}));
    EXPECT_EQ(Check(WithValue(row_, Above(row_, row_.min))), Refusal{});
    return;
  }
  EXPECT_EQ(Check(WithValue(row_, row_.min)), Refusal{});
  const bool is_unsigned = FieldOf(row_).cpp_type() == FieldDescriptor::CPPTYPE_UINT32;
  if (is_unsigned && row_.min == 0) return;  // nothing below
  const std::string reason = row_.field == "parameters.stop" ? "EMPTY_STOP" : Reason();
  EXPECT_EQ(Check(WithValue(row_, Below(row_, row_.min))), (Refusal{reason, field_}));
}

TEST_P(EachLimit, FloatsMustBeFinite) {
  const FieldDescriptor& field = FieldOf(row_);
  if (field.cpp_type() != FieldDescriptor::CPPTYPE_FLOAT && !field.is_map()) return;
  for (const double value : {std::numeric_limits<double>::quiet_NaN(),
                             std::numeric_limits<double>::infinity(),
                             -std::numeric_limits<double>::infinity()}) {
    EXPECT_EQ(Check(WithValue(row_, value)), (Refusal{"FIELD_OUT_OF_RANGE", field_}));
  }
}

TEST_P(EachLimit, BothSidesOfMaxItems) {
  if (row_.max_items == 0) return;
  const auto with_items = [&](uint32_t count) {
    Message message;
    for (uint32_t i = 0; i < count; ++i) {
      if (FieldOf(row_).is_map())
        (*message.mutable_logit_bias())[i] = 0;
      else
        message.MergeFrom(WithValue(row_, row_.min));
    }
    return message;
  };
  EXPECT_EQ(Check(with_items(row_.max_items)), Refusal{});
  const std::string reason = FieldOf(row_).is_map() ? "FIELD_OUT_OF_RANGE" : "TOO_MANY_STOPS";
  EXPECT_EQ(Check(with_items(row_.max_items + 1)), (Refusal{reason, field_}));
}

std::string NameOfRow(const ::testing::TestParamInfo<size_t>& info) {
  return std::string(FieldLimits(kModel)[info.param].field.substr(11));
}
INSTANTIATE_TEST_SUITE_P(Table,
                         EachLimit,
                         ::testing::Range(size_t{0}, FieldLimits(kModel).size()),
                         NameOfRow);

TEST(GenerationParametersTest, TheTableHoldsEveryFieldWithARange) {
  std::set<std::string> in_table;
  for (const FieldLimitRow& row : FieldLimits(kModel)) in_table.insert(std::string(row.field));
  for (int i = 0; i < Message::descriptor()->field_count(); ++i) {
    const FieldDescriptor& field = *Message::descriptor()->field(i);
    const bool any_value = field.cpp_type() == FieldDescriptor::CPPTYPE_BOOL ||
                           field.cpp_type() == FieldDescriptor::CPPTYPE_UINT64;
    EXPECT_EQ(in_table.contains("parameters." + field.name()), !any_value) << field.name();
  }
}

TEST(GenerationParametersTest, DefaultsAreAccepted) {
  EXPECT_EQ(Check(DefaultParameters()), Refusal{});
}

TEST(GenerationParametersTest, Row53BiasOutOfTheVocabulary) {
  Message message;
  (*message.mutable_logit_bias())[50294] = -100;
  EXPECT_EQ(Check(message), Refusal{});
  (*message.mutable_logit_bias())[50295] = 0;
  EXPECT_EQ(Check(message), (Refusal{"TOKEN_ID_OUT_OF_RANGE", "parameters.logit_bias"}));
}

// A bias is finite and filters keep a token, so nothing but this bans every one.
TEST(GenerationParametersTest, Row53OnlyAMaskedLoneEosBansEveryToken) {
  Message message;
  message.set_min_new_tokens(1);
  const auto reason = [&](const ModelLimits& limits) {
    const auto result = ParseGenerationParameters(message, limits);
    return result.ok()
               ? ""
               : std::string(ErrorReasonInfo(GetErrorDetails(result.status())->reason).name);
  };
  EXPECT_EQ(reason({.context_tokens = 9, .vocabulary_tokens = 1, .eos_token_id = 0}),
            "ALL_TOKENS_BANNED");
  EXPECT_EQ(reason({.context_tokens = 9, .vocabulary_tokens = 1, .eos_token_id = std::nullopt}),
            "");
  EXPECT_EQ(reason({.context_tokens = 9, .vocabulary_tokens = 2, .eos_token_id = 0}), "");
  message.set_min_new_tokens(0);
  EXPECT_EQ(reason({.context_tokens = 9, .vocabulary_tokens = 1, .eos_token_id = 0}), "");
}

TEST(GenerationParametersTest, UnknownFieldsAndValuesAreRefused) {
  Message unknown_field;
  Message::GetReflection()->MutableUnknownFields(&unknown_field)->AddVarint(21, 1);
  EXPECT_EQ(Check(unknown_field), (Refusal{"UNSUPPORTED_FIELD", "parameters"}));
  Message nested;
  nested.mutable_time_limit()->set_seconds(1);
  nested.time_limit()
      .GetReflection()
      ->MutableUnknownFields(nested.mutable_time_limit())
      ->AddVarint(9, 1);
  EXPECT_EQ(Check(nested), (Refusal{"UNSUPPORTED_FIELD", "parameters.time_limit"}));
  Message unknown_value;
  unknown_value.add_stop_conditions(static_cast<phi::v1::StopCondition>(77));
  EXPECT_EQ(Check(unknown_value), (Refusal{"UNSUPPORTED_FIELD", "parameters.stop_conditions"}));
}

TEST(GenerationParametersTest, MinAboveMaxNewTokens) {
  Message message;
  message.set_max_new_tokens(5);
  message.set_min_new_tokens(5);
  EXPECT_EQ(Check(message), Refusal{});
  message.set_min_new_tokens(6);
  EXPECT_EQ(Check(message), (Refusal{"FIELD_OUT_OF_RANGE", "parameters.min_new_tokens"}));
}

TEST(GenerationParametersTest, MalformedTimeLimits) {
  const auto refused = Refusal{"FIELD_OUT_OF_RANGE", "parameters.time_limit"};
  Message message;
  message.mutable_time_limit()->set_nanos(1'000'000'000);
  EXPECT_EQ(Check(message), refused);
  message.mutable_time_limit()->set_seconds(5);
  message.mutable_time_limit()->set_nanos(-1);
  EXPECT_EQ(Check(message), refused);
  message.mutable_time_limit()->set_seconds(-5);
  EXPECT_EQ(Check(message), refused);
  message.mutable_time_limit()->set_seconds(std::numeric_limits<int64_t>::max());
  message.mutable_time_limit()->set_nanos(0);
  EXPECT_EQ(Check(message), refused);
}

TEST(GenerationParametersTest, UnsetIsNotZero) {
  const auto unset = ParseGenerationParameters(Message(), kModel);
  ASSERT_TRUE(unset.ok());
  EXPECT_EQ(unset->max_new_tokens, std::nullopt);
  EXPECT_EQ(unset->top_p, 1.0F);
  EXPECT_EQ(unset->seed, std::nullopt);
  EXPECT_EQ(unset->logprobs, std::nullopt);
  EXPECT_EQ(unset->time_limit, std::nullopt);
  Message message;
  message.set_seed(0);
  message.set_logprobs(0);
  message.mutable_time_limit()->set_nanos(1'000'000);
  const auto zero = ParseGenerationParameters(message, kModel);
  ASSERT_TRUE(zero.ok());
  EXPECT_EQ(zero->seed, 0U);
  EXPECT_EQ(zero->logprobs, 0U);
  EXPECT_EQ(zero->time_limit, absl::Milliseconds(1));
}

TEST(GenerationParametersTest, ValuesAreTakenOver) {
  Message message;
  message.set_max_new_tokens(7);
  message.set_temperature(0.5F);
  message.set_top_k(3);
  message.set_top_p(0.25F);
  message.set_min_p(0.125F);
  message.set_repetition_penalty(1.5F);
  message.set_frequency_penalty(-0.5F);
  message.set_presence_penalty(2);
  (*message.mutable_logit_bias())[9] = -1;
  (*message.mutable_logit_bias())[2] = 100;
  message.set_n(16);
  message.set_include_stop(true);
  message.set_ignore_eos(true);
  message.set_truncate_prompt(9);
  message.add_stop("a");
  message.add_stop("b");
  message.add_stop_token_ids(11);
  const auto result = ParseGenerationParameters(message, kModel);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->max_new_tokens, 7U);
  EXPECT_EQ(result->temperature, 0.5F);
  EXPECT_EQ(result->top_k, 3U);
  EXPECT_EQ(result->top_p, 0.25F);
  EXPECT_EQ(result->min_p, 0.125F);
  EXPECT_EQ(result->repetition_penalty, 1.5F);
  EXPECT_EQ(result->frequency_penalty, -0.5F);
  EXPECT_EQ(result->presence_penalty, 2.0F);
  EXPECT_EQ(result->logit_bias, (std::vector<TokenBias>{{2, 100}, {9, -1}}));
  EXPECT_EQ(result->n, 16U);
  EXPECT_TRUE(result->include_stop);
  EXPECT_TRUE(result->ignore_eos);
  EXPECT_EQ(result->truncate_prompt, 9U);
  EXPECT_EQ(result->stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(result->stop_token_ids, std::vector<uint32_t>{11});
}

}  // namespace
}  // namespace phi::service
