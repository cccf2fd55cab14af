#include "service/access/token_bucket.h"

#include <gtest/gtest.h>

namespace phi::service {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(TokenBucketTest, GoesIntoDebtOnceAndPaysItOff) {
  const TokenBucket::Clock::time_point start;
  TokenBucket bucket(600, start);  // 10 a second
  EXPECT_EQ(bucket.Wait(start), milliseconds(0));
  bucket.Take(650, start);
  EXPECT_GE(bucket.Wait(start), seconds(5));
  EXPECT_LE(bucket.Wait(start), seconds(5) + milliseconds(10));
  EXPECT_GT(bucket.Wait(start + milliseconds(4900)), milliseconds(0));
  EXPECT_EQ(bucket.Wait(start + milliseconds(5100)), milliseconds(0));
}

TEST(TokenBucketTest, SavesUpOneMinuteAtMost) {
  const TokenBucket::Clock::time_point start;
  TokenBucket bucket(600, start);
  bucket.Take(600, start + seconds(3600));
  EXPECT_GT(bucket.Wait(start + seconds(3600)), milliseconds(0));
}

TEST(TokenBucketTest, ANewRateKeepsTheDebt) {
  const TokenBucket::Clock::time_point start;
  TokenBucket bucket(600, start);
  bucket.Take(1200, start);
  bucket.SetRate(6000, start);
  EXPECT_GE(bucket.Wait(start), seconds(6));
  EXPECT_LE(bucket.Wait(start), seconds(6) + milliseconds(10));
  TokenBucket full(600, start);
  full.SetRate(60, start);
  full.Take(60, start);
  EXPECT_GT(full.Wait(start), milliseconds(0)) << "what was saved up keeps to the new rate";
}

}  // namespace
}  // namespace phi::service
