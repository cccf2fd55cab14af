#include "tools/phictl/bench/load_generator.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "service/api/grpc_deadline.h"
#include "tools/phictl/bench/load_clock.h"
#include "tools/phictl/bench/stream_call.h"

namespace phi::phictl {
namespace {

constexpr uint32_t kStreamsPerLane = 100;
constexpr absl::Duration kTick = absl::Milliseconds(100);

}  // namespace

size_t LoadGenerator::NumLanes(uint32_t max_streams) {
  return (max_streams + kStreamsPerLane - 1) / kStreamsPerLane;
}

LoadGenerator::LoadGenerator(const Connection& connection,
                             Options options,
                             Workload& workload,
                             LoadRecorder& recorder)
    : connection_(connection), options_(options), workload_(workload), recorder_(recorder) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // else all channels share a connection
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);             // what fails is to be seen
  const uint32_t max_streams =
      options_.concurrency > 0 ? options_.concurrency : options_.max_inflight;
  for (size_t i = 0; i < NumLanes(max_streams); ++i) {
    Lane lane;
    lane.channel = Connect(connection_, arguments);
    lane.stub = phi::v1::TextGeneration::NewStub(lane.channel);
    lanes_.push_back(std::move(lane));
  }
}

LoadGenerator::~LoadGenerator() = default;

bool LoadGenerator::ConnectAll(absl::Duration timeout) {
  const absl::MutexLock lock(&mutex_);
  for (const Lane& lane : lanes_) lane.channel->GetState(/*try_to_connect=*/true);
  const auto deadline = service::ToGrpcDeadline(service::After(service::SteadyNow(), timeout));
  return std::all_of(lanes_.begin(), lanes_.end(), [&deadline](const Lane& lane) {
    return lane.channel->WaitForConnected(deadline);
  });
}

void LoadGenerator::Run(const std::atomic<bool>& interrupted, const Tick& tick) {
  if (options_.concurrency > 0) {
    RunClosed(interrupted, tick);
  } else {
    RunOpen(interrupted, tick);
  }
  if (interrupted) recorder_.Cut(LoadNow());
  AwaitAll(interrupted, tick);
}

void LoadGenerator::RunOpen(const std::atomic<bool>& interrupted, const Tick& tick) {
  absl::Time next_tick = LoadNow();
  while (const std::optional<PlannedRequest> planned = workload_.Next()) {
    const absl::Time due = options_.start + planned->offset;
    for (absl::Time now = LoadNow(); now < due || now >= next_tick; now = LoadNow()) {
      if (interrupted) return;
      if (now >= next_tick) {
        tick();
        next_tick = now + kTick;
      } else {
        absl::SleepFor(std::min(due, next_tick) - now);
      }
    }
    Launch(*planned, due);
  }
}

void LoadGenerator::RunClosed(const std::atomic<bool>& interrupted, const Tick& tick) {
  const auto has_room = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return live_.size() < options_.concurrency;
  };
  absl::SleepFor(options_.start - LoadNow());
  while (const std::optional<PlannedRequest> planned = workload_.Next()) {
    bool room = false;
    while (!room) {
      {
        const absl::MutexLock lock(&mutex_);
        room = ended_.WaitUntil(mutex_, service::After(service::SteadyNow(), kTick), has_room);
      }
      if (interrupted || LoadNow() >= options_.end) return;
      if (!room) tick();
    }
    if (planned->index % options_.concurrency == 0) tick();
    Launch(*planned, LoadNow());
  }
}

void LoadGenerator::Launch(const PlannedRequest& planned, absl::Time due) {
  StreamCall* call = nullptr;
  {
    const absl::MutexLock lock(&mutex_);
    if (options_.concurrency == 0 && live_.size() >= options_.max_inflight) {
      recorder_.OnEnd({.ending = Outcome::Ending::kSaturated,
                       .due = due,
                       .sent = due,
                       .first_token = std::nullopt,
                       .last_token = due,
                       .end = LoadNow(),
                       .code = {},
                       .reason = {}});
      return;
    }
    const auto emptiest =
        std::min_element(lanes_.begin(), lanes_.end(), [](const Lane& a, const Lane& b) {
          return a.inflight < b.inflight;
        });
    ++emptiest->inflight;
    const auto lane = static_cast<size_t>(emptiest - lanes_.begin());
    call = new StreamCall(*this, lane, planned, due);
    live_.insert(call);
    recorder_.OnStart();
    // Under the mutex, so that the call cannot be over, and gone, while it is started.
    call->Start(*emptiest->stub, NewContext(connection_), workload_.PromptTokens(planned));
  }
}

void LoadGenerator::OnCallEnd(StreamCall* call, size_t lane) {
  const absl::MutexLock lock(&mutex_);
  --lanes_[lane].inflight;
  call->ReleaseChannel();
  live_.erase(call);
  ended_.NotifyAll();
}

void LoadGenerator::AwaitAll(const std::atomic<bool>& interrupted, const Tick& tick) {
  const auto all_over = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return live_.empty(); };
  bool cancelled = false;
  while (true) {
    {
      const absl::MutexLock lock(&mutex_);
      if (ended_.WaitUntil(mutex_, service::After(service::SteadyNow(), kTick), all_over)) return;
      if (interrupted && !std::exchange(cancelled, true)) {
        for (StreamCall* call : live_) call->Cancel();
      }
    }
    tick();
  }
}

}  // namespace phi::phictl
