#include "service/telemetry/metrics_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/unit/telemetry/http_get.h"

namespace phi::service {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class MetricsServerTest : public testing::Test {
 protected:
  void SetUp() override {
    page_ = *MetricPage::Create(1);
    server_ = *MetricsServer::Start(
        {.listen = "127.0.0.1:0",
         .livez =
             [] {
               return HealthAnswer{true, "alive"};
             },
         .readyz =
             [this] {
               return HealthAnswer{ready_, ready_ ? "ready" : "no group is up"};
             }},
        page_.get());
  }

  std::string Get(const std::string& path) const {
    return HttpExchange(server_->port(), "GET " + path + " HTTP/1.1\r\nHost: test\r\n\r\n");
  }

  std::unique_ptr<MetricPage> page_;
  std::unique_ptr<MetricsServer> server_;
  std::atomic<bool> ready_ = false;
};

TEST_F(MetricsServerTest, ServesTheTextFormat) {
  page_->Get(MetricId::kPromptTokensTotal).Add(7);
  const std::string answer = Get("/metrics");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  EXPECT_THAT(answer,
              HasSubstr("# TYPE phi_prompt_tokens_total counter\nphi_prompt_tokens_total 7\n"));
}

TEST_F(MetricsServerTest, TellsOfItsProcess) {
  const std::string answer = Get("/metrics");
  for (const char* name : {"process_cpu_seconds_total",
                           "process_resident_memory_bytes",
                           "process_open_fds",
                           "process_max_fds",
                           "process_start_time_seconds"}) {
    EXPECT_THAT(answer, HasSubstr("\n" + std::string(name) + " "));
  }
  const auto value = [&](const std::string& name) {
    return std::stod(answer.substr(answer.find("\n" + name + " ") + name.size() + 2));
  };
  EXPECT_GT(value("process_resident_memory_bytes"), 1e6);
  EXPECT_LT(value("process_open_fds"), 200);
  EXPECT_GE(value("process_open_fds"), 4);
  const double now = static_cast<double>(::time(nullptr));
  EXPECT_NEAR(value("process_start_time_seconds"), now, 600);
}

TEST_F(MetricsServerTest, HealthFollowsItsCallbacks) {
  EXPECT_THAT(Get("/livez"), StartsWith("HTTP/1.1 200 OK\r\n"));
  const std::string before = Get("/readyz");
  EXPECT_THAT(before, StartsWith("HTTP/1.1 503 Service Unavailable\r\n"));
  EXPECT_THAT(before, HasSubstr("\r\n\r\nno group is up\n"));
  ready_ = true;
  EXPECT_THAT(Get("/readyz"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST_F(MetricsServerTest, AnswersNothingElse) {
  EXPECT_THAT(Get("/"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Get("/metrics/../../etc/passwd"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Get("/" + std::string(8000, 'x')), StartsWith("HTTP/1.1 404"));
  const std::string post =
      HttpExchange(server_->port(), "POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
  EXPECT_THAT(post, StartsWith("HTTP/1.1 405"));
  const std::string head = HttpExchange(server_->port(), "HEAD /livez HTTP/1.1\r\n\r\n");
  EXPECT_THAT(head, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(head, Not(HasSubstr("alive")));
}

TEST_F(MetricsServerTest, NamesAnAddressThatIsTaken) {
  const std::string taken = "127.0.0.1:" + std::to_string(server_->port());
  const auto second =
      MetricsServer::Start({.listen = taken, .livez = {}, .readyz = {}}, page_.get());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(taken));
}

TEST_F(MetricsServerTest, RefusesAnAddressThatIsNone) {
  for (const char* listen : {"", "nonsense", "127.0.0.1:99999", "127.0.0.1"}) {
    const auto server =
        MetricsServer::Start({.listen = listen, .livez = {}, .readyz = {}}, page_.get());
    EXPECT_FALSE(server.ok()) << listen;
  }
}

// Silent connections hold every thread, and yet a scrape is answered within
// the time-out.
TEST_F(MetricsServerTest, SilentConnectionsDelayAScrapeByNoMoreThanTheTimeOut) {
  std::vector<int> silent;
  for (int i = 0; i < 4; ++i) silent.push_back(ConnectTo(server_->port()));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(Get("/livez"), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(8));
  for (const int fd : silent) ::close(fd);
}

}  // namespace
}  // namespace phi::service
