#include "service/router/calls/answer_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace phi::service {
namespace {

using phi::v1::GenerateStreamResponse;
using ::testing::ElementsAreArray;

const Tokenizer& TestTokenizer() {
  static const Tokenizer tokenizer =
      *Tokenizer::Load(PHI_SOURCE_DIR "/deploy/models/phi-nano/tokenizer.json");
  return tokenizer;
}

std::vector<uint32_t> IdsOf(std::string_view text) {
  return *TestTokenizer().Encode(text, {.max_tokens = 1000, .cancelled = {}});
}

phi::worker::v1::GenerateResponse Message(
    const std::vector<uint32_t>& ids,
    phi::v1::FinishReason finish = phi::v1::FINISH_REASON_UNSPECIFIED) {
  phi::worker::v1::GenerateResponse message;
  for (const uint32_t id : ids) {
    auto& token = *message.add_tokens();
    token.set_token_id(id);
    token.set_logprob(-0.5F);
    token.add_top()->set_token_id(7);
  }
  message.set_finish_reason(finish);
  return message;
}

// The answer to `ids` and then `finish`, with one message a token or all in one.
std::vector<GenerateStreamResponse> Answers(const GenerationParameters& parameters,
                                            const std::vector<uint32_t>& ids,
                                            phi::v1::FinishReason finish) {
  AnswerBuilder builder(TestTokenizer(), parameters, "");
  std::vector<GenerateStreamResponse> answers;
  for (size_t i = 0; i < ids.size() && !builder.ended(); ++i) {
    const bool last = i + 1 == ids.size();
    const auto message = Message({ids[i]}, last ? finish : phi::v1::FINISH_REASON_UNSPECIFIED);
    EXPECT_TRUE(builder.Add(message, answers.emplace_back()).ok());
  }
  return answers;
}

GenerateStreamResponse Join(const std::vector<GenerateStreamResponse>& answers) {
  GenerateStreamResponse joined;
  for (const auto& answer : answers) {
    joined.mutable_text()->append(answer.text());
    joined.mutable_token_ids()->MergeFrom(answer.token_ids());
    joined.mutable_logprobs()->MergeFrom(answer.logprobs());
    if (answer.has_finish()) *joined.mutable_finish() = answer.finish();
  }
  return joined;
}

TEST(AnswerBuilderTest, TextIdsAndFinish) {
  const auto ids = IdsOf("def f(x):\n    return x\n");
  const auto answer = Join(Answers({}, ids, phi::v1::FINISH_REASON_MAX_NEW_TOKENS));
  EXPECT_EQ(answer.text(), "def f(x):\n    return x\n");
  EXPECT_THAT(answer.token_ids(), ElementsAreArray(ids));
  EXPECT_EQ(answer.finish().reason(), phi::v1::FINISH_REASON_MAX_NEW_TOKENS);
  EXPECT_EQ(answer.finish().generated_tokens(), ids.size());
  EXPECT_TRUE(answer.logprobs().empty());
}

TEST(AnswerBuilderTest, TheReplicasReasonIsTheCallers) {
  const auto answer = Join(Answers({}, IdsOf("a b"), phi::v1::FINISH_REASON_CONTEXT_LENGTH));
  EXPECT_EQ(answer.finish().reason(), phi::v1::FINISH_REASON_CONTEXT_LENGTH);
}

TEST(AnswerBuilderTest, AReasonThatIsNoneIsRefused) {
  AnswerBuilder builder(TestTokenizer(), {}, "");
  GenerateStreamResponse answer;
  const absl::Status status =
      builder.Add(Message(IdsOf("a"), static_cast<phi::v1::FinishReason>(99)), answer);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_FALSE(builder.ended());
}

TEST(AnswerBuilderTest, StopAcrossTokensIsNeverShown) {
  const auto ids = IdsOf("print(1)\n\nprint(2)\n");
  GenerationParameters parameters;
  parameters.stop = {")\n\npr"};
  const auto answers = Answers(parameters, ids, phi::v1::FINISH_REASON_MAX_NEW_TOKENS);
  const auto answer = Join(answers);
  EXPECT_EQ(answer.text(), "print(1");
  EXPECT_EQ(answer.finish().reason(), phi::v1::FINISH_REASON_STOP_STRING);
  EXPECT_EQ(answer.finish().stop(), ")\n\npr");
  EXPECT_EQ(answer.finish().generated_tokens(), answers.size());
  EXPECT_EQ(static_cast<size_t>(answer.token_ids_size()), answers.size());
  parameters.include_stop = true;
  EXPECT_EQ(Join(Answers(parameters, ids, phi::v1::FINISH_REASON_MAX_NEW_TOKENS)).text(),
            "print(1)\n\npr");
}

TEST(AnswerBuilderTest, StopCondition) {
  GenerationParameters parameters;
  parameters.stop_conditions = {phi::v1::STOP_CONDITION_LINE_END};
  const auto answer =
      Join(Answers(parameters, IdsOf("x = 1\ny = 2\n"), phi::v1::FINISH_REASON_MAX_NEW_TOKENS));
  EXPECT_EQ(answer.text(), "x = 1");
  EXPECT_EQ(answer.finish().reason(), phi::v1::FINISH_REASON_STOP_CONDITION);
  EXPECT_EQ(answer.finish().condition(), phi::v1::STOP_CONDITION_LINE_END);
}

TEST(AnswerBuilderTest, EosIsCountedButNotText) {
  auto ids = IdsOf("x = 1");
  ids.push_back(*TestTokenizer().eos_id());
  GenerationParameters parameters;
  const auto answer = Join(Answers(parameters, ids, phi::v1::FINISH_REASON_EOS));
  EXPECT_EQ(answer.text(), "x = 1");
  EXPECT_EQ(answer.finish().reason(), phi::v1::FINISH_REASON_EOS);
  EXPECT_EQ(answer.finish().generated_tokens(), ids.size());
  EXPECT_THAT(answer.token_ids(), ElementsAreArray(ids));
  parameters.ignore_eos = true;
  EXPECT_EQ(Join(Answers(parameters, ids, phi::v1::FINISH_REASON_MAX_NEW_TOKENS)).text(),
            "x = 1<|endoftext|>");
}

TEST(AnswerBuilderTest, StopTokenIsTextOnlyIfAskedFor) {
  const auto ids = IdsOf("x = 1;");
  GenerationParameters parameters;
  parameters.stop_token_ids = {ids.back()};
  auto answer = Join(Answers(parameters, ids, phi::v1::FINISH_REASON_STOP_TOKEN));
  EXPECT_EQ(answer.text(), "x = 1");
  EXPECT_EQ(answer.finish().token_id(), ids.back());
  parameters.include_stop = true;
  answer = Join(Answers(parameters, ids, phi::v1::FINISH_REASON_STOP_TOKEN));
  EXPECT_EQ(answer.text(), "x = 1;");
  EXPECT_EQ(answer.finish().token_id(), ids.back());
}

TEST(AnswerBuilderTest, StopTokenBeforeMinNewTokensIsText) {
  const auto ids = IdsOf("a;b");
  GenerationParameters parameters;
  parameters.stop_token_ids = {ids.front()};
  parameters.min_new_tokens = 1;
  EXPECT_EQ(Join(Answers(parameters, ids, phi::v1::FINISH_REASON_MAX_NEW_TOKENS)).text(), "a;b");
}

TEST(AnswerBuilderTest, LogprobsTravelWithTheirTokens) {
  GenerationParameters parameters;
  parameters.logprobs = 1;
  const auto ids = IdsOf("naïve 🙂 end");
  for (const auto& answer : Answers(parameters, ids, phi::v1::FINISH_REASON_MAX_NEW_TOKENS)) {
    ASSERT_EQ(answer.logprobs_size(), answer.token_ids_size());
    for (int i = 0; i < answer.logprobs_size(); ++i) {
      EXPECT_EQ(answer.logprobs(i).token_id(), answer.token_ids(i));
      EXPECT_EQ(answer.logprobs(i).piece(), TestTokenizer().TokenBytes(answer.token_ids(i)));
      ASSERT_EQ(answer.logprobs(i).top_size(), 1);
      EXPECT_EQ(answer.logprobs(i).top(0).token_id(), 7U);
    }
  }
}

TEST(AnswerBuilderTest, HalfCharacterAtTheEndIsReplaced) {
  auto ids = IdsOf("é");
  if (ids.size() == 1) ids = IdsOf("🙂");
  ASSERT_GT(ids.size(), 1U);
  ids.pop_back();
  const auto answer = Join(Answers({}, ids, phi::v1::FINISH_REASON_MAX_NEW_TOKENS));
  EXPECT_EQ(answer.text(), *TestTokenizer().Decode(ids));
  EXPECT_THAT(answer.token_ids(), ElementsAreArray(ids));
}

TEST(AnswerBuilderTest, ATokenThatIsNoneIsAnInternalError) {
  AnswerBuilder builder(TestTokenizer(), {}, "");
  GenerateStreamResponse answer;
  EXPECT_EQ(builder.Add(Message({TestTokenizer().vocab_size()}), answer).code(),
            absl::StatusCode::kInternal);
}

// Random tokens, stops and cuts into messages: the joined answer is always the same, and it is
// Decode's text cut at a stop.
TEST(AnswerBuilderTest, HowTokensAreSpreadChangesNothing) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<uint32_t> ids(1 + random() % 20);
    for (uint32_t& id : ids) id = static_cast<uint32_t>(random() % 400);
    GenerationParameters parameters;
    parameters.logprobs = 1;
    parameters.stop = {std::string(1, static_cast<char>('a' + random() % 26))};
    parameters.include_stop = random() % 2 == 0;
    const auto one_by_one = Join(Answers(parameters, ids, phi::v1::FINISH_REASON_MAX_NEW_TOKENS));
    AnswerBuilder builder(TestTokenizer(), parameters, "");
    GenerateStreamResponse joined;
    for (size_t begin = 0; begin < ids.size();) {
      const size_t end = std::min(ids.size(), begin + 1 + random() % 5);
      const std::vector<uint32_t> part(ids.begin() + static_cast<std::ptrdiff_t>(begin),
                                       ids.begin() + static_cast<std::ptrdiff_t>(end));
      const auto finish = end == ids.size() ? phi::v1::FINISH_REASON_MAX_NEW_TOKENS
                                            : phi::v1::FINISH_REASON_UNSPECIFIED;
      ASSERT_TRUE(builder.Add(Message(part, finish), joined).ok());
      begin = end;
    }
    ASSERT_TRUE(builder.ended());
    ASSERT_EQ(joined.SerializeAsString(), one_by_one.SerializeAsString()) << "round " << round;
    const std::string whole = *TestTokenizer().Decode(ids);
    const size_t stop = whole.find(parameters.stop[0]);
    const size_t length =
        stop == std::string::npos ? whole.size() : stop + (parameters.include_stop ? 1 : 0);
    ASSERT_EQ(joined.text(), whole.substr(0, length)) << "round " << round;
  }
}

}  // namespace
}  // namespace phi::service
