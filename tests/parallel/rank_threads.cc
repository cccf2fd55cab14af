#include "tests/parallel/rank_threads.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <thread>
#include <utility>

#include "shard/collective/gloo_communicator.h"
#include "shard/collective/single_rank_communicator.h"

namespace phi::shard {

TemporaryDir::TemporaryDir()
    : path_((std::filesystem::temp_directory_path() / "phi-test-XXXXXX").string()) {
  EXPECT_NE(mkdtemp(path_.data()), nullptr);
}

TemporaryDir::~TemporaryDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void RunRanks(int world_size,
              const std::function<void(std::unique_ptr<Communicator>)>& body,
              absl::Duration timeout) {
  if (world_size == 1) {
    body(MakeSingleRankCommunicator());
    return;
  }
  const TemporaryDir store;
  std::vector<std::jthread> ranks;
  for (int rank = 0; rank < world_size; ++rank) {
    ranks.emplace_back([&, rank] {
      absl::StatusOr<std::unique_ptr<Communicator>> communicator = MakeGlooCommunicator(
          rank,
          world_size,
          {.store_dir = store.path(), .connect_timeout = absl::Seconds(60), .timeout = timeout});
      ASSERT_TRUE(communicator.ok()) << communicator.status();
      body(*std::move(communicator));
    });
  }
}

}  // namespace phi::shard
