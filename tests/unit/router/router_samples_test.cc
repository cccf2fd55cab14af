// Calls with several samples: what belongs to each, and what to all.
#include <gmock/gmock.h>

#include <map>

#include "tests/unit/router/router_fixture.h"

namespace phi::service {
namespace {

class RouterSamples : public RouterFixture {
 protected:
  // Three samples that a replica takes in turns, of different lengths.
  Script ThreeAnswers() const {
    Script script;
    for (const char* text : {"one two three", "uno dos", "eins zwei drei vier fünf"})
      script.samples.push_back(Ids(text));
    return script;
  }
  phi::v1::GenerateRequest RequestOf(uint32_t n) const {
    auto request = Request();
    request.mutable_parameters()->set_n(n);
    return request;
  }
  phi::v1::GenerateResponse Unary(const phi::v1::GenerateRequest& request) {
    grpc::ClientContext context;
    phi::v1::GenerateResponse response;
    const grpc::Status status = stub().Generate(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  static std::map<uint32_t, std::string> Texts(const StreamResult& stream) {
    std::map<uint32_t, std::string> texts;
    for (const auto& message : stream.messages) texts[message.index()] += message.text();
    return texts;
  }
};

TEST_F(RouterSamples, EachHasItsTextAndFinishAndTheCallOneHeaderAndSummary) {
  AddReplica(ThreeAnswers());
  StartRouter();
  const StreamResult stream = Stream(RequestOf(3));
  ASSERT_TRUE(stream.status.ok()) << stream.status.error_message();
  std::map<uint32_t, int> finishes;
  for (size_t i = 0; i < stream.messages.size(); ++i) {
    const auto& message = stream.messages[i];
    EXPECT_EQ(message.has_header(), i == 0);
    EXPECT_EQ(message.has_summary(), i + 1 == stream.messages.size());
    EXPECT_EQ(finishes[message.index()], 0) << "a message after the index's last";
    finishes[message.index()] += message.has_finish() ? 1 : 0;
  }
  EXPECT_EQ(finishes, (std::map<uint32_t, int>{{0, 1}, {1, 1}, {2, 1}}));
  EXPECT_EQ(Texts(stream),
            (std::map<uint32_t, std::string>{
                {0, "one two three"}, {1, "uno dos"}, {2, "eins zwei drei vier fünf"}}));

  const phi::v1::GenerateResponse unary = Unary(RequestOf(3));
  ASSERT_EQ(unary.completions_size(), 3);
  uint32_t generated = 0;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(unary.completions(i).index(), static_cast<uint32_t>(i));
    EXPECT_EQ(unary.completions(i).text(), Texts(stream)[static_cast<uint32_t>(i)]);
    generated += unary.completions(i).finish().generated_tokens();
  }
  EXPECT_EQ(unary.summary().usage().generated_tokens(), generated);
  EXPECT_EQ(stream.messages.back().summary().usage().generated_tokens(), generated);
  EXPECT_NE(unary.header().request_id(), "");
}

TEST_F(RouterSamples, AStopEndsItsSampleAtTheReplicaAndTheOthersGoOn) {
  Script script = ThreeAnswers();
  script.samples[1] = Ids("uno STOP");
  script.samples[1].resize(250, Ids(" x")[0]);
  script.delay_per_message = std::chrono::milliseconds(10);
  tests::FakeReplica& replica = AddReplica(script);
  StartRouter();
  auto request = RequestOf(3);
  request.mutable_parameters()->add_stop("STOP");
  for (const bool unary : {false, true}) {
    const int ended_before = replica.num_samples_ended();
    if (unary) {
      const auto response = Unary(request);
      EXPECT_EQ(response.completions(1).text(), "uno ");
      EXPECT_EQ(response.completions(1).finish().stop(), "STOP");
      EXPECT_EQ(response.completions(2).text(), "eins zwei drei vier fünf");
    } else {
      EXPECT_EQ(Texts(Stream(request)),
                (std::map<uint32_t, std::string>{
                    {0, "one two three"}, {1, "uno "}, {2, "eins zwei drei vier fünf"}}));
    }
    EXPECT_TRUE(Eventually([&] { return replica.num_active() == 0; }));
    EXPECT_EQ(replica.num_samples_ended() - ended_before, 1);
  }
  EXPECT_EQ(replica.num_cancelled(), 0);
}

TEST_F(RouterSamples, StopsInAllOfThemFreeTheReplica) {
  Script script = Says("one STOP two three four five six");
  script.hang_at_end = true;
  tests::FakeReplica& replica = AddReplica(script);
  StartRouter();
  auto request = RequestOf(16);
  request.mutable_parameters()->add_stop("STOP");
  const auto response = Unary(request);
  ASSERT_EQ(response.completions_size(), 16);
  for (const auto& completion : response.completions()) EXPECT_EQ(completion.text(), "one ");
  EXPECT_TRUE(Eventually([&] { return replica.num_active() == 0; }));
  EXPECT_EQ(replica.num_samples_ended(), 16);
  EXPECT_EQ(replica.num_cancelled(), 0);
}

TEST_F(RouterSamples, TimeLimitEndsThoseThatLive) {
  Script script = ThreeAnswers();
  script.hang_at_end = true;
  AddReplica(script);
  StartRouter();
  auto request = RequestOf(3);
  request.mutable_parameters()->add_stop("dos");
  request.mutable_parameters()->mutable_time_limit()->set_seconds(2);
  const auto response = Unary(request);
  ASSERT_EQ(response.completions_size(), 3);
  EXPECT_EQ(response.completions(0).finish().reason(), phi::v1::FINISH_REASON_TIME_LIMIT);
  EXPECT_EQ(response.completions(1).finish().reason(), phi::v1::FINISH_REASON_STOP_STRING);
  EXPECT_EQ(response.completions(2).finish().reason(), phi::v1::FINISH_REASON_TIME_LIMIT);
  EXPECT_EQ(response.completions(2).text(), "eins zwei drei vier fünf");
}

TEST_F(RouterSamples, ParametersTravelToTheReplica) {
  tests::FakeReplica& replica = AddReplica(Says("x"));
  StartRouter();
  auto request = RequestOf(2);
  auto& parameters = *request.mutable_parameters();
  parameters.set_repetition_penalty(1.5F);
  parameters.set_frequency_penalty(-2);
  parameters.set_presence_penalty(2);
  (*parameters.mutable_logit_bias())[7] = -100;
  EXPECT_TRUE(Stream(request).status.ok());
  const phi::v1::GenerationParameters sent = replica.requests().at(0).parameters();
  EXPECT_EQ(sent.n(), 2U);
  EXPECT_EQ(sent.repetition_penalty(), 1.5F);
  EXPECT_EQ(sent.frequency_penalty(), -2.0F);
  EXPECT_EQ(sent.presence_penalty(), 2.0F);
  EXPECT_EQ(sent.logit_bias().at(7), -100.0F);
}

}  // namespace
}  // namespace phi::service
