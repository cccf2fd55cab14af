#include "service/worker/group/rank_group.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "service/worker/group/listen_address.h"

namespace phi::service {
namespace {

// As waitpid() gives them on Linux.
constexpr int Exited(int code) { return code << 8; }
constexpr int Signalled(int number) { return number; }

TEST(RankExit, CauseIsTheSignalThenTheErrorThenTheFirst) {
  EXPECT_EQ(FirstCause({{0, Exited(70)}, {2, Exited(0)}, {1, Signalled(9)}}).rank, 1);
  EXPECT_EQ(FirstCause({{2, Exited(0)}, {0, Exited(65)}, {1, Exited(70)}}).rank, 0);
  EXPECT_EQ(FirstCause({{3, Exited(0)}, {0, Exited(0)}}).rank, 3);
  EXPECT_EQ((RankExit{0, Exited(65)}).what(), "exited with 65");
  EXPECT_EQ((RankExit{0, Signalled(9)}).what(), "was killed by signal 9");
}

TEST(RankSpec, ComesBackWhole) {
  RankSpec spec;
  spec.rank = 2;
  spec.world_size = 3;
  spec.epoch = uint64_t{1} << 60;
  spec.plan_fds = {5, 7};
  spec.listen = "[::1]:50052";
  spec.model_dir = "/models/phi \"1\"\n";
  spec.stall_limit_ms = 10000;
  const auto decoded = DecodeRankSpec(EncodeRankSpec(spec));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(EncodeRankSpec(*decoded), EncodeRankSpec(spec));
  EXPECT_EQ(decoded->epoch, spec.epoch);
  EXPECT_EQ(decoded->model_dir, spec.model_dir);
  EXPECT_EQ(decoded->plan_fds, spec.plan_fds);
}

TEST(RankSpec, RefusesOtherText) {
  for (const char* text : {"", "{}", "[1]", "{\"rank\":\"x\"}", "nonsense"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(DecodeRankSpec(text).status())) << text;
  }
}

TEST(ListenAddress, PortZeroPicksOneThatIsFreeAgain) {
  const auto address = ProbeListenAddress("127.0.0.1:0");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_TRUE(address->loopback);
  EXPECT_EQ(address->text.substr(0, 10), "127.0.0.1:");
  EXPECT_NE(address->text, "127.0.0.1:0");
  EXPECT_TRUE(ProbeListenAddress(address->text).ok());
  EXPECT_FALSE(ProbeListenAddress("0.0.0.0:0")->loopback);
}

TEST(ListenAddress, TakenOneIsUnavailable) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in bound{};
  bound.sin_family = AF_INET;
  bound.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(bound);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&bound), size), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size), 0);
  const std::string text = "127.0.0.1:" + std::to_string(ntohs(bound.sin_port));
  const auto address = ProbeListenAddress(text);
  EXPECT_TRUE(absl::IsUnavailable(address.status())) << address.status();
  EXPECT_NE(address.status().message().find(text), std::string::npos);
  close(fd);
}

TEST(ListenAddress, RefusesWhatIsNone) {
  for (const char* text : {"", "localhost", ":1", "127.0.0.1:http", "127.0.0.1:99999x"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ProbeListenAddress(text).status())) << text;
  }
}

}  // namespace
}  // namespace phi::service
