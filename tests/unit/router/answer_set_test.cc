// The answers of several samples, against a slow reference written from docs/api.md: whatever the
// tokens, the stops and the moments at which messages are taken, joined deltas are the whole text.
#include "service/router/calls/answer_set.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace phi::service {
namespace {

using phi::v1::GenerateStreamResponse;
using Ids = std::vector<uint32_t>;

const Tokenizer& TestTokenizer() {
  static const Tokenizer tokenizer =
      *Tokenizer::Load(PHI_SOURCE_DIR "/deploy/models/phi-nano/tokenizer.json");
  return tokenizer;
}

phi::worker::v1::GenerateResponse Message(uint32_t index, std::span<const uint32_t> ids) {
  phi::worker::v1::GenerateResponse message;
  message.set_index(index);
  for (const uint32_t id : ids) {
    auto& token = *message.add_tokens();
    token.set_token_id(id);
    token.set_logprob(-static_cast<float>(id));
  }
  return message;
}

struct Answer {
  std::string text;
  size_t generated_tokens = 0;
  std::string stop;  // empty: none matched
  friend bool operator==(const Answer&, const Answer&) = default;
  friend void PrintTo(const Answer& answer, std::ostream* out) {
    *out << '"' << answer.text << "\" of " << answer.generated_tokens << " tokens, stop \""
         << answer.stop << '"';
  }
};

// How many tokens it takes until the first `end` bytes of `text` can no longer change.
size_t TokensUntil(const Ids& ids, const std::string& text, size_t end) {
  for (size_t k = 1; k <= ids.size(); ++k) {
    const std::string part = *TestTokenizer().Decode(std::span(ids).first(k));
    if (part.size() >= end && part.compare(0, end, text, 0, end) == 0) return k;
  }
  return ids.size();
}

// docs/api.md, word by word: the earliest match ends the text, before it or after it; the token
// that completes it counts; matches that the first min_new_tokens complete do not.
Answer Reference(const Ids& ids, const GenerationParameters& parameters) {
  const std::string text = *TestTokenizer().Decode(ids);
  Answer best{.text = text, .generated_tokens = ids.size(), .stop = ""};
  size_t best_end = std::string::npos;
  size_t best_begin = 0;
  for (const std::string& stop : parameters.stop) {
    for (size_t begin = text.find(stop); begin != std::string::npos;
         begin = text.find(stop, begin + 1)) {
      const size_t end = begin + stop.size();
      const bool earlier = end < best_end || (end == best_end && begin < best_begin);
      if (!earlier) continue;
      const size_t tokens = TokensUntil(ids, text, end);
      if (tokens <= parameters.min_new_tokens) continue;
      best_end = end;
      best_begin = begin;
      best = {.text = text.substr(0, parameters.include_stop ? end : begin),
              .generated_tokens = tokens,
              .stop = stop};
    }
  }
  return best;
}

class RandomCase {
 public:
  explicit RandomCase(uint32_t seed) : random_(seed) {
    parameters.n = 1 + Below(4);
    parameters.logprobs = 0;
    parameters.include_stop = Below(2) == 0;
    parameters.min_new_tokens = Below(3) == 0 ? Below(6) : 0;
    for (uint32_t i = 0; i < parameters.n; ++i) samples.push_back(RandomIds());
    std::set<std::string> stops;
    for (uint32_t i = Below(5); i > 0; --i) stops.insert(RandomStop(samples[Below(parameters.n)]));
    stops.erase("");
    parameters.stop.assign(stops.begin(), stops.end());
  }

  uint32_t Below(uint32_t bound) { return static_cast<uint32_t>(random_() % bound); }

  GenerationParameters parameters;
  std::vector<Ids> samples;

 private:
  // Text over few letters, so that stops occur and overlap, amid bytes that are parts of
  // characters or of none.
  Ids RandomIds() {
    static const std::vector<Ids> pieces = [] {
      std::vector<Ids> result;
      for (const char* text : {"a", "b", "ab", "ba", "\n", " ", "é", "🙂", "中", "x = 1"})
        result.push_back(*TestTokenizer().Encode(text, {.max_tokens = 10, .cancelled = {}}));
      return result;
    }();
    Ids ids;
    for (uint32_t n = 1 + Below(14); n > 0; --n) {
      const Ids& piece = pieces[Below(static_cast<uint32_t>(pieces.size()))];
      if (Below(4) == 0) {
        ids.push_back(Below(256));
      } else {
        ids.insert(ids.end(), piece.begin(), piece.end());
      }
    }
    return ids;
  }

  // Of whole characters that stand in the text, without U+FFFD, which the decoder makes late.
  std::string RandomStop(const Ids& ids) {
    const std::string text = *TestTokenizer().Decode(ids);
    std::vector<std::string> characters;
    for (const char c : text) {
      if ((static_cast<unsigned char>(c) & 0xC0U) != 0x80U) characters.emplace_back();
      characters.back() += c;
    }
    std::string stop;
    const size_t begin = Below(static_cast<uint32_t>(characters.size()) + 1);
    for (size_t i = begin; i < characters.size() && i < begin + 1 + Below(4); ++i) {
      if (characters[i] == "\xEF\xBF\xBD") break;
      stop += characters[i];
    }
    return stop;
  }

  std::mt19937 random_;
};

struct Streamed {
  std::vector<GenerateStreamResponse> joined;
  std::vector<bool> told_stopped;
  size_t num_finishes = 0;
};

void Join(const GenerateStreamResponse& message, Streamed& streamed) {
  GenerateStreamResponse& joined = streamed.joined[message.index()];
  EXPECT_FALSE(joined.has_finish()) << "a message after an index's last";
  joined.mutable_text()->append(message.text());
  joined.mutable_token_ids()->MergeFrom(message.token_ids());
  joined.mutable_logprobs()->MergeFrom(message.logprobs());
  EXPECT_EQ(message.token_ids_size(), message.logprobs_size());
  if (!message.has_finish()) return;
  *joined.mutable_finish() = message.finish();
  ++streamed.num_finishes;
}

// Samples in random turns, in messages of random sizes, which are taken at random moments; at the
// end all at once, as for Generate, if `unary`.
Streamed Play(RandomCase& random, bool unary) {
  AnswerSet answers(TestTokenizer(), random.parameters, "");
  Streamed streamed{.joined = std::vector<GenerateStreamResponse>(random.parameters.n),
                    .told_stopped = std::vector<bool>(random.parameters.n)};
  std::vector<size_t> sent(random.parameters.n);
  while (!answers.ended()) {
    const uint32_t index = random.Below(random.parameters.n);
    const Ids& ids = random.samples[index];
    const size_t count = std::min<size_t>(1 + random.Below(3), ids.size() - sent[index]);
    if (count == 0) continue;
    auto message = Message(index, std::span(ids).subspan(sent[index], count));
    sent[index] += count;
    const bool last = sent[index] == ids.size();
    if (last) message.set_finish_reason(phi::v1::FINISH_REASON_MAX_NEW_TOKENS);
    const auto stopped = answers.Add(message);
    EXPECT_TRUE(stopped.ok());
    if (stopped->has_value()) streamed.told_stopped[index] = true;
    while (!unary && answers.num_pending() > 0 && random.Below(2) == 0)
      Join(answers.TakePending(), streamed);
  }
  if (unary) {
    for (const auto& answer : answers.TakeAll()) Join(answer, streamed);
  }
  while (answers.num_pending() > 0) Join(answers.TakePending(), streamed);
  EXPECT_EQ(answers.pending_bytes(), 0U);
  return streamed;
}

TEST(AnswerSetTest, Row55Row61JoinedDeltasAreTheReferencesTextForAnyStops) {
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    for (const bool unary : {false, true}) {
      RandomCase random(seed);
      const Streamed streamed = Play(random, unary);
      ASSERT_EQ(streamed.num_finishes, random.parameters.n);
      for (uint32_t i = 0; i < random.parameters.n; ++i) {
        const auto& joined = streamed.joined[i];
        const Answer answer{.text = joined.text(),
                            .generated_tokens = joined.finish().generated_tokens(),
                            .stop = joined.finish().stop()};
        const Answer expected = Reference(random.samples[i], random.parameters);
        ASSERT_EQ(answer, expected) << "seed " << seed << ", sample " << i;
        ASSERT_EQ(static_cast<size_t>(joined.token_ids_size()), expected.generated_tokens);
        ASSERT_TRUE(std::equal(
            joined.token_ids().begin(), joined.token_ids().end(), random.samples[i].begin()));
        // Only a sample that goes on at the replica has to be ended there.
        if (streamed.told_stopped[i]) {
          ASSERT_NE(expected.stop, "");
        }
      }
    }
  }
}

TEST(AnswerSetTest, FirstTokenIsPendingAlsoWithoutText) {
  GenerationParameters parameters;
  parameters.n = 2;
  parameters.stop = {"abcabc"};
  AnswerSet answers(TestTokenizer(), parameters, "");
  const Ids ids = *TestTokenizer().Encode("abc", {.max_tokens = 9, .cancelled = {}});
  ASSERT_TRUE(answers.Add(Message(1, ids)).ok());
  ASSERT_EQ(answers.num_pending(), 1U);
  EXPECT_EQ(answers.TakePending().text(), "");
  ASSERT_TRUE(answers.Add(Message(0, ids)).ok());
  EXPECT_EQ(answers.num_pending(), 0U);
}

TEST(AnswerSetTest, IndexThatIsNoneIsAnInternalError) {
  AnswerSet answers(TestTokenizer(), {}, "");
  EXPECT_EQ(answers.Add(Message(1, {})).status().code(), absl::StatusCode::kInternal);
}

TEST(AnswerSetTest, FinishAllEndsOnlyTheLiving) {
  GenerationParameters parameters;
  parameters.n = 3;
  AnswerSet answers(TestTokenizer(), parameters, "");
  auto whole = Message(1, Ids{5});
  whole.set_finish_reason(phi::v1::FINISH_REASON_EOS);
  ASSERT_TRUE(answers.Add(whole).ok());
  answers.FinishAll(phi::v1::FINISH_REASON_TIME_LIMIT);
  EXPECT_TRUE(answers.ended());
  const auto all = answers.TakeAll();
  EXPECT_EQ(all[0].finish().reason(), phi::v1::FINISH_REASON_TIME_LIMIT);
  EXPECT_EQ(all[1].finish().reason(), phi::v1::FINISH_REASON_EOS);
  EXPECT_EQ(all[2].finish().reason(), phi::v1::FINISH_REASON_TIME_LIMIT);
}

}  // namespace
}  // namespace phi::service
