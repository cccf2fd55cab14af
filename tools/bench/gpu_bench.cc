// Decode and prefill steps of a tensor-parallel group on GPUs, beside what tools/bench/roofline.h
// makes of data sheets. Linked with the host harness it runs the same steps and counts instead of
// measuring.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "shard/checkpoint/model_config.h"
#include "tests/parallel/rank_group.h"
#include "tools/bench/device_facts.h"
#include "tools/bench/roofline.h"
#include "tools/bench/timing.h"
#include "tools/run_main.h"

namespace phi::bench {
namespace {

constexpr int kUsage = 64;  // sysexits.h
constexpr int kUnavailable = 69;
constexpr int kBadModel = 65;

struct Options {
  std::string model_dir;
  std::string dtype = "bfloat16";
  int ranks = 1;
  int context = 1024;
  std::vector<int> batches = {1, 8, 32};
  int rounds = 50;
  int chunk = 512;
};

// The sequences of one batch size, with blocks of their own.
class Batch {
 public:
  Batch(const Options& options, int size, uint32_t vocab_size)
      : options_(options), size_(size), vocab_size_(vocab_size) {}

  static uint32_t BlocksEach(const Options& options) {
    const int positions = options.context + options.rounds + 1;
    return static_cast<uint32_t>(kernels::NumKvBlocks(positions));
  }

  // `count` tokens of sequence `index` from `first` on.
  void AddTo(shard::StepPlan& plan, int index, int first, int count) const {
    const uint32_t each = BlocksEach(options_);
    const int end = first + count;
    shard::PlannedSequence sequence{.num_tokens = static_cast<uint32_t>(count),
                                    .first_position = static_cast<uint32_t>(first),
                                    .num_draws = end > options_.context ? 1U : 0U};
    for (uint32_t block = 0; block * kernels::kKvBlockTokens < static_cast<uint32_t>(end); ++block)
      sequence.block_ids.push_back(static_cast<uint32_t>(index) * each + block);
    for (int i = 0; i < count; ++i) {
      plan.token_ids.push_back(static_cast<uint32_t>(31 * index + 7 * (first + i)) % vocab_size_);
    }
    plan.sequences.push_back(std::move(sequence));
  }

  std::vector<shard::StepPlan> PrefillPlans() const {
    std::vector<shard::StepPlan> plans;
    for (int index = 0; index < size_; ++index) {
      for (int first = 0; first < options_.context; first += options_.chunk) {
        AddTo(
            plans.emplace_back(), index, first, std::min(options_.chunk, options_.context - first));
      }
    }
    return plans;
  }

  shard::StepPlan DecodePlan(int round) const {
    shard::StepPlan plan;
    for (int index = 0; index < size_; ++index) AddTo(plan, index, options_.context + round, 1);
    return plan;
  }

 private:
  const Options& options_;
  int size_;
  uint32_t vocab_size_;
};

class Bench {
 public:
  Bench(const Options& options, const shard::ModelConfig& config, kernels::DType dtype)
      : options_(options),
        config_(config),
        dtype_(dtype),
        facts_(GetDeviceFacts()),
        group_(GroupOf(options, config, dtype)) {}

  bool Run() {
    std::printf("%s, %d of them, %s%s\n",
                facts_.name.c_str(),
                options_.ranks,
                options_.dtype.c_str(),
                facts_.is_emulated ? ": executed on the host, nothing below is measured" : "");
    for (const int size : options_.batches) {
      const Batch batch(options_, size, static_cast<uint32_t>(config_.vocab_size));
      if (!Prefill(batch, size) || !Decode(batch, size)) return false;
      std::fflush(stdout);
    }
    return true;
  }

 private:
  static shard::GroupOptions GroupOf(const Options& options,
                                     const shard::ModelConfig& config,
                                     kernels::DType dtype) {
    const auto most =
        static_cast<uint32_t>(*std::max_element(options.batches.begin(), options.batches.end()));
    return {.model_dir = options.model_dir,
            .world_size = options.ranks,
            .make_rank = shard::DefaultRanks(dtype).maker(1),
            .num_real_tokens = static_cast<uint32_t>(config.vocab_size),
            .limits = {.max_sequences = most,
                       .max_step_tokens = std::max(static_cast<uint32_t>(options.chunk), most),
                       .num_kv_blocks = most * Batch::BlocksEach(options)}};
  }

  bool Execute(const shard::StepPlan& plan) {
    const auto result = group_.Execute(plan);
    if (result.ok()) return true;
    std::fprintf(stderr, "gpu_bench: %s\n", result.status().ToString().c_str());
    return false;
  }

  bool Prefill(const Batch& batch, int size) {
    bool ok = true;
    std::vector<double> seconds;
    for (const shard::StepPlan& plan : batch.PrefillPlans()) {
      seconds.push_back(Seconds([&] { ok = ok && Execute(plan); }));
    }
    if (size != options_.batches.front() || !ok) return ok;
    const int tokens = std::min(options_.chunk, options_.context);
    std::string line = absl::StrFormat("prefill of %d tokens:", tokens);
    // The first step of all may wait for code to be loaded.
    if (!facts_.is_emulated) line += absl::StrFormat(" measured %.2f ms;", seconds.back() * 1e3);
    for (const DeviceSpec& device : KnownDevices()) {
      const double floor = PrefillFlops(config_, tokens) / options_.ranks;
      line += absl::StrFormat(" modelled %s %.3f ms at 60%% of its peak;",
                              device.name,
                              floor / (0.6 * device.flops_per_second) * 1e3);
    }
    line.back() = '\n';
    std::fputs(line.c_str(), stdout);
    return true;
  }

  bool Decode(const Batch& batch, int size) {
    bool ok = true;
    std::vector<double> seconds;
    TakeStepCounts();
    for (int round = 0; round < options_.rounds && ok; ++round) {
      const shard::StepPlan plan = batch.DecodePlan(round);
      seconds.push_back(Seconds([&] { ok = Execute(plan); }));
    }
    if (ok) PrintDecode(size, Median(seconds), TakeStepCounts());
    return ok;
  }

  void PrintDecode(int size, double seconds, const std::optional<StepCounts>& counts) const {
    const DecodeCost cost =
        CostOfDecode(config_,
                     dtype_,
                     {.batch = size, .context = options_.context, .world_size = options_.ranks});
    std::printf("decode, batch %d at %d positions, a rank's share %.3f MB and %d launches:\n",
                size,
                options_.context,
                cost.bytes() / 1e6,
                cost.launches);
    if (counts.has_value()) {
      const auto a_step = [this](uint64_t count) {
        return static_cast<double>(count) / options_.rounds;
      };
      std::printf("  counted on the host: %.1f launches, %.3f MB, %.1f collectives a step\n",
                  a_step(counts->launches),
                  a_step(counts->bytes_read) / 1e6,
                  a_step(counts->collectives));
    } else {
      std::printf("  measured: %.3f ms, %.0f tokens/s\n", seconds * 1e3, size / seconds);
    }
    if (facts_.bytes_per_second > 0) {
      PrintModelled(cost, {"this device", facts_.bytes_per_second}, counts ? 0 : seconds);
    }
    for (const DeviceSpec& device : KnownDevices()) PrintModelled(cost, device, 0);
  }

  void PrintModelled(const DecodeCost& cost, const DeviceSpec& device, double measured) const {
    const ModelledSeconds modelled = ModelDecode(cost, options_.ranks, device.bytes_per_second);
    std::printf("  modelled: %s, %.2f TB/s: %.3f ms by bytes alone, %.3f ms with launches",
                std::string(device.name).c_str(),
                device.bytes_per_second / 1e12,
                modelled.bytes_alone * 1e3,
                modelled.with_launches * 1e3);
    if (measured > 0)
      std::printf("; measured is %.0f%% of the roofline", 100 * modelled.bytes_alone / measured);
    std::printf("\n");
  }

  const Options& options_;
  const shard::ModelConfig config_;
  const kernels::DType dtype_;
  const DeviceFacts facts_;
  shard::RankGroup group_;
};

int Run(const Options& options) {
  const auto config = shard::ReadModelConfig(options.model_dir);
  if (!config.ok()) {
    std::fprintf(stderr, "gpu_bench: %s\n", std::string(config.status().message()).c_str());
    return kBadModel;
  }
  if (shard::MostRanks() < options.ranks) {
    std::fprintf(
        stderr, "gpu_bench: %d GPUs asked for, %d here\n", options.ranks, shard::MostRanks());
    return kUnavailable;
  }
  const kernels::DType dtype = options.dtype == "float32"   ? kernels::DType::kFloat32
                               : options.dtype == "float16" ? kernels::DType::kFloat16
                                                            : kernels::DType::kBFloat16;
  return Bench(options, *config, dtype).Run() ? 0 : kUnavailable;
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Decode and prefill steps of a tensor-parallel group on GPUs, without a service, beside the\n"
      "modelled ones. Make a checkpoint of Phi-1's size first: make_checkpoint DIR"};
  CLI::Option* model = app.add_option("--model", options.model_dir, "Model directory");
  app.add_option("--dtype", options.dtype, "What to compute in")
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}))
      ->capture_default_str();
  app.add_option("--ranks", options.ranks, "One a GPU")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--context", options.context, "Positions before the decoded ones")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--batches", options.batches, "Sequences of a step, one or more sizes")
      ->check(CLI::Range(1, 1024))
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--rounds", options.rounds, "Decode steps of each size")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  bool only_count = false;
  CLI::Option* count = app.add_flag("--count", only_count, "Only say how many GPUs CUDA finds");
  model->excludes(count);
  CLI11_PARSE(app, argc, argv);
  if (only_count) {
    std::printf("%d\n", shard::MostRanks());
    return 0;
  }
  if (options.model_dir.empty()) {
    std::fprintf(stderr, "gpu_bench: --model is required\n");
    return kUsage;
  }
  return Run(options);
}

}  // namespace
}  // namespace phi::bench

int main(int argc, char** argv) {
  return phi::tools::RunMain("gpu_bench", phi::bench::Main, argc, argv);
}
