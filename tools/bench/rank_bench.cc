// Whole steps of a tensor-parallel group on CPUs, against the machine's memory bandwidth and
// against themselves: one rank with all threads beside one rank a thread, interleaved in one run,
// so that the machine's noise hits both alike.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "kernels/base/status_macros.h"
#include "shard/checkpoint/model_config.h"
#include "tools/bench/rank_processes.h"
#include "tools/bench/read_bandwidth.h"
#include "tools/bench/timing.h"
#include "tools/run_main.h"

namespace phi::bench {
namespace {

struct Options {
  std::string model_dir;
  std::string dtype = "bfloat16";
  std::string isa = "auto";
  int threads = 2;
  int rounds = 5;
};

double MiB(size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

// Bytes of weights that one decode step reads: all but the embedding table, of which it reads a
// row.
double StepBytes(const shard::ModelConfig& config, kernels::DType dtype) {
  const double hidden = config.hidden_size;
  const double qkv =
      static_cast<double>(config.num_heads + 2 * config.num_key_value_heads) * config.head_dim;
  const double layer =
      hidden * (qkv + config.intermediate_size) +
      hidden * (static_cast<double>(config.num_heads) * config.head_dim + config.intermediate_size);
  return (config.num_layers * layer + hidden * config.vocab_size) *
         static_cast<double>(kernels::DTypeBytes(dtype));
}

void PrintGroup(const char* name, const GroupFigures& figures) {
  std::printf(
      "%-18s ready in %5.2f s   planned %7.0f MiB   PSS %7.0f MiB = %.3f of it   peak while "
      "loading %.3f\n",
      name,
      figures.ready_seconds,
      MiB(figures.planned_bytes),
      MiB(figures.ready_pss_bytes),
      MiB(figures.ready_pss_bytes) / MiB(figures.planned_bytes),
      MiB(figures.peak_pss_bytes) / MiB(figures.planned_bytes));
}

double BestReadBandwidth(int threads) {
  kernels::ThreadPool pool(threads);
  ReadBench reads(pool, size_t{512} << 20);
  double best = 0;
  for (int repeat = 0; repeat < 3; ++repeat) {
    for (const ReadVariant& variant : ReadVariants()) best = std::max(best, reads.Measure(variant));
  }
  return best;
}

constexpr StepRequest kDecode1 = {.batch = 1, .rows = 1, .context = 128, .repeats = 1};
constexpr StepRequest kDecode8 = {.batch = 8, .rows = 1, .context = 128, .repeats = 3};
constexpr StepRequest kDecode16 = {.batch = 16, .rows = 1, .context = 128, .repeats = 3};
constexpr StepRequest kPrefill512 = {.batch = 1, .rows = 512, .context = 0, .repeats = 1};
// Single decode steps of the two groups in a row, so that a change of the machine's speed meets
// both.
constexpr int kPairsPerRound = 12;

// Seconds of each kind of step, over the rounds.
struct StepSeconds {
  std::vector<double> decode_1, decode_8, decode_16, prefill_512;

  void AddLarge(RankProcesses& group) {
    decode_8.push_back(group.Run(kDecode8));
    decode_16.push_back(group.Run(kDecode16));
    prefill_512.push_back(group.Run(kPrefill512));
  }
};

void PrintSteps(const char* name, const StepSeconds& seconds) {
  std::printf(
      "%-18s decode tokens/s: batch 1 %6.1f   8 %6.1f   16 %6.1f   prefill of 512 tokens %5.2f s\n",
      name,
      1 / Median(seconds.decode_1),
      8 / Median(seconds.decode_8),
      16 / Median(seconds.decode_16),
      Median(seconds.prefill_512));
}

int Run(const Options& options) {
  const auto config = shard::ReadModelConfig(options.model_dir);
  const auto isa = kernels::ParseIsa(options.isa);
  for (const absl::Status& status : {config.status(), isa.status()}) {
    if (status.ok()) continue;
    std::fprintf(stderr, "rank_bench: %s\n", std::string(status.message()).c_str());
    return 65;
  }
  const kernels::DType dtype =
      options.dtype == "float32" ? kernels::DType::kFloat32 : kernels::DType::kBFloat16;
  std::printf("%s, %s, %d threads\n",
              std::string(kernels::IsaName(*isa)).c_str(),
              options.dtype.c_str(),
              options.threads);

  // One after the other, so that each loads alone.
  RankProcesses wide(
      {.model_dir = options.model_dir, .world_size = 1, .cpu = {dtype, options.threads, *isa}});
  PrintGroup("1 rank", wide.WaitReady());
  RankProcesses split(
      {.model_dir = options.model_dir, .world_size = options.threads, .cpu = {dtype, 1, *isa}});
  PrintGroup("1 rank a thread", split.WaitReady());
  std::fflush(stdout);

  StepSeconds wide_seconds;
  StepSeconds split_seconds;
  std::vector<double> bandwidth;
  std::vector<double> ratio;
  for (int round = 0; round < options.rounds; ++round) {
    bandwidth.push_back(BestReadBandwidth(options.threads));
    for (int pair = 0; pair < kPairsPerRound; ++pair) {
      wide_seconds.decode_1.push_back(wide.Run(kDecode1));
      split_seconds.decode_1.push_back(split.Run(kDecode1));
      ratio.push_back(wide_seconds.decode_1.back() / split_seconds.decode_1.back());
    }
    wide_seconds.AddLarge(wide);
    split_seconds.AddLarge(split);
  }
  PrintSteps("1 rank", wide_seconds);
  PrintSteps("1 rank a thread", split_seconds);
  const double achieved = StepBytes(*config, dtype) / Median(wide_seconds.decode_1) / 1e9;
  std::printf(
      "decode at batch 1 reads %.1f GB/s of weights, the best read loop %.1f GB/s: %.0f%%\n",
      achieved,
      Median(bandwidth),
      100 * achieved / Median(bandwidth));
  std::printf("batch 8 gives %.2f times the tokens/s of batch 1\n",
              8 * Median(wide_seconds.decode_1) / Median(wide_seconds.decode_8));
  std::printf("1 rank a thread decodes at %.1f%% of 1 rank (median of %zu pairs of steps)\n",
              100 * Median(ratio),
              ratio.size());
  return 0;
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Decode and prefill steps of a tensor-parallel group on CPUs, without a service.\n"
      "Make a checkpoint of Phi-1's size first: make_checkpoint --preset phi-1 DIR"};
  app.add_option("--model", options.model_dir, "Model directory")->required();
  app.add_option("--dtype", options.dtype, "What to compute in")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  app.add_option("--isa", options.isa, "auto, avx2, avx512 or avx512_bf16")->capture_default_str();
  app.add_option("--threads", options.threads, "Of one rank; the other group has as many ranks")
      ->capture_default_str();
  app.add_option("--rounds", options.rounds, "Interleaved rounds")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return Run(options);
}

}  // namespace
}  // namespace phi::bench

int main(int argc, char** argv) {
  return phi::tools::RunMain("rank_bench", phi::bench::Main, argc, argv);
}
