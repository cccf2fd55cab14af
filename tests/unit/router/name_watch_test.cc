#include "service/router/replicas/name_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "absl/synchronization/notification.h"

namespace phi::service {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

constexpr absl::Duration kPatience = absl::Seconds(60);

ReplicaList::Name Named(const char* host) { return {.host = host, .port = "1"}; }

TEST(NameWatchTest, Row22TellsWhatIsThereNowAndNothingWhereALookUpFails) {
  std::atomic<int> num_look_ups = 0;
  std::vector<NameWatch::Addresses> told;
  absl::Notification twice;
  NameWatch watch(
      {.names = {Named("a"), Named("b")},
       .interval = absl::Milliseconds(1),
       .on_found =
           [&](const NameWatch::Addresses& addresses) {
             if (told.size() < 2) told.push_back(addresses);
             if (told.size() == 2 && !twice.HasBeenNotified()) twice.Notify();
           },
       .look_up = [&](const ReplicaList::Name& name) -> absl::StatusOr<std::vector<std::string>> {
         const int round = num_look_ups++ / 2;
         if (name.host == "a") return std::vector<std::string>{"10.0.0.1:1"};
         if (round == 1) return absl::UnavailableError("no resolver");
         return std::vector<std::string>{round == 0 ? "10.0.0.2:1" : "10.0.0.3:1"};
       }});
  ASSERT_TRUE(twice.WaitForNotificationWithTimeout(kPatience));
  EXPECT_THAT(told[0], ElementsAre(Pair("10.0.0.1:1", "a"), Pair("10.0.0.2:1", "b")));
  EXPECT_THAT(told[1], ElementsAre(Pair("10.0.0.1:1", "a"), Pair("10.0.0.3:1", "b")));
}

TEST(NameWatchTest, ItsEndDoesNotWaitForTheResolver) {
  // Shared, because the look-up outlives the test's own variables.
  struct Resolver {
    absl::Notification asked, answers, answered;
  };
  const auto resolver = std::make_shared<Resolver>();
  bool told = false;
  {
    NameWatch watch({.names = {Named("a")},
                     .on_found = [&](const NameWatch::Addresses&) { told = true; },
                     .look_up = [resolver](const ReplicaList::Name&)
                         -> absl::StatusOr<std::vector<std::string>> {
                       resolver->asked.Notify();
                       resolver->answers.WaitForNotification();
                       resolver->answered.Notify();
                       return std::vector<std::string>{"10.0.0.1:1"};
                     }});
    ASSERT_TRUE(resolver->asked.WaitForNotificationWithTimeout(kPatience));
  }
  EXPECT_FALSE(resolver->answers.HasBeenNotified());
  resolver->answers.Notify();
  ASSERT_TRUE(resolver->answered.WaitForNotificationWithTimeout(kPatience));
  EXPECT_FALSE(told);
}

}  // namespace
}  // namespace phi::service
