#include "service/access/port_limits.h"

#include <arpa/inet.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"

namespace phi::service {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);

// Answers with the caller's address at once; on /hold, when it is released.
class PeerService : public grpc::CallbackGenericService {
 public:
  absl::Notification held;
  absl::Notification release;

  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override {
    return new Answer(context, this);
  }

 private:
  class Answer : public grpc::ServerGenericBidiReactor {
   public:
    Answer(grpc::GenericCallbackServerContext* context, PeerService* service)
        : peer_(context->peer()) {
      if (context->method() == "/hold") {
        service->held.Notify();
        service->release.WaitForNotificationWithTimeout(kPatience);
      }
      StartWriteAndFinish(&peer_bytes_, {}, grpc::Status::OK);
    }
    void OnDone() override { delete this; }

   private:
    std::string peer_;
    grpc::Slice peer_slice_{peer_};
    grpc::ByteBuffer peer_bytes_{&peer_slice_, 1};
  };
};

class PortLimitsTest : public ::testing::Test {
 protected:
  void Start(const PortLimits& limits) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterCallbackGenericService(&service_);
    LimitPort(limits, builder);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    channel_ =
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", port_), grpc::InsecureChannelCredentials());
    stub_ = std::make_unique<grpc::GenericStub>(channel_);
  }

  void TearDown() override {
    if (!service_.release.HasBeenNotified()) service_.release.Notify();
    if (server_ != nullptr) server_->Shutdown();
  }

  struct Call {
    grpc::ClientContext context;
    grpc::ByteBuffer request, response;
    grpc::Status status;
    absl::Notification done;

    std::string Peer() const {
      grpc::Slice slice;
      EXPECT_TRUE(response.DumpToSingleSlice(&slice).ok());
      return {reinterpret_cast<const char*>(slice.begin()), slice.size()};
    }
  };

  void Begin(const std::string& method, Call* call) {
    grpc::Slice empty("");
    call->request = grpc::ByteBuffer(&empty, 1);
    stub_->UnaryCall(&call->context,
                     method,
                     grpc::StubOptions(),
                     &call->request,
                     &call->response,
                     [call](grpc::Status status) {
                       call->status = std::move(status);
                       call->done.Notify();
                     });
  }

  std::string Peer() {
    Call call;
    Begin("/peer", &call);
    call.done.WaitForNotification();
    EXPECT_TRUE(call.status.ok()) << call.status.error_message();
    return call.Peer();
  }

  PeerService service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<grpc::GenericStub> stub_;
};

// An HTTP/2 connection that says hello, and after that only what it is told to.
class BareConnection {
 public:
  static constexpr uint8_t kPing = 6;
  static constexpr uint8_t kAck = 1;
  struct Frame {
    uint8_t type, flags;
    std::string payload;
  };

  explicit BareConnection(int port) : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    Send(std::string_view("\0\0\0\4\0\0\0\0\0", 9));  // SETTINGS, none
  }
  ~BareConnection() { close(socket_); }
  BareConnection(const BareConnection&) = delete;
  BareConnection& operator=(const BareConnection&) = delete;

  void AcknowledgePing(const Frame& ping) {
    Send(std::string("\0\0\x08\6\1\0\0\0\0", 9) + ping.payload);
  }

  // False at the end of the connection, and on a time-out, which is a failure.
  bool Receive(Frame* frame) {
    std::array<uint8_t, 9> header{};
    if (!ReceiveBytes(header.data(), header.size())) return false;
    *frame = {.type = header[3], .flags = header[4], .payload = ""};
    frame->payload.resize(static_cast<size_t>(header[0]) << 16 | header[1] << 8 | header[2]);
    return ReceiveBytes(frame->payload.data(), frame->payload.size());
  }

 private:
  void Send(std::string_view bytes) {
    EXPECT_EQ(send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }

  bool ReceiveBytes(void* bytes, size_t size) {
    auto* to = static_cast<char*>(bytes);
    while (size > 0) {
      pollfd waiting{.fd = socket_, .events = POLLIN, .revents = 0};
      const int ready = poll(&waiting, 1, static_cast<int>(absl::ToInt64Milliseconds(kPatience)));
      EXPECT_EQ(ready, 1) << "nothing came, and the connection stayed";
      const ssize_t received = ready == 1 ? recv(socket_, to, size, 0) : 0;
      if (received <= 0) return false;
      to += received;
      size -= static_cast<size_t>(received);
    }
    return true;
  }

  int socket_;
};

PortLimits Limits() { return PublicPortLimits(absl::Minutes(2)); }

TEST_F(PortLimitsTest, AConnectionThatAnswersNoPingIsClosed) {
  PortLimits limits = Limits();
  limits.keepalive_time = absl::Milliseconds(200);
  ASSERT_NO_FATAL_FAILURE(Start(limits));
  BareConnection connection(port_);
  BareConnection::Frame frame;
  int pings = 0;
  while (connection.Receive(&frame)) pings += frame.type == BareConnection::kPing ? 1 : 0;
  EXPECT_EQ(pings, 1);
}

TEST_F(PortLimitsTest, AConnectionThatAnswersPingsStays) {
  PortLimits limits = Limits();
  // Half of it is the time-out, which a busy machine should keep.
  limits.keepalive_time = absl::Seconds(3);
  ASSERT_NO_FATAL_FAILURE(Start(limits));
  BareConnection connection(port_);
  BareConnection::Frame frame;
  for (int pings = 0; pings < 3;) {
    ASSERT_TRUE(connection.Receive(&frame)) << "closed after " << pings << " answered pings";
    if (frame.type != BareConnection::kPing || frame.flags == BareConnection::kAck) continue;
    connection.AcknowledgePing(frame);
    ++pings;
  }
}

TEST_F(PortLimitsTest, AnOldConnectionEndsItsCallsWhileNewOnesComeByAnother) {
  PortLimits limits = Limits();
  limits.max_connection_age = absl::Milliseconds(500);
  ASSERT_NO_FATAL_FAILURE(Start(limits));
  Call held;
  Begin("/hold", &held);
  ASSERT_TRUE(service_.held.WaitForNotificationWithTimeout(kPatience));
  const std::string first = Peer();
  std::string newer;
  const absl::Time until = absl::Now() + kPatience;
  while ((newer = Peer()) == first) ASSERT_LT(absl::Now(), until) << "the connection never aged";
  EXPECT_FALSE(held.done.HasBeenNotified());
  service_.release.Notify();
  held.done.WaitForNotification();
  EXPECT_TRUE(held.status.ok()) << held.status.error_message();
  EXPECT_NE(held.Peer(), newer);
}

TEST_F(PortLimitsTest, TheGraceOfAnOldConnectionCoversTheLongestCall) {
  EXPECT_GT(PublicPortLimits(absl::Minutes(7)).longest_call, absl::Minutes(7));
  EXPECT_EQ(WorkerPortLimits(64).longest_call, absl::InfiniteDuration());
}

}  // namespace
}  // namespace phi::service
