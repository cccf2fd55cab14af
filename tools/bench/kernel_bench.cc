// The CPU kernels at Phi-1's sizes: decode against the machine's memory bandwidth, prefill against
// oneDNN, both in one run.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/thread_pool.h"
#include "tools/bench/dnnl_matmul.h"
#include "tools/bench/read_bandwidth.h"
#include "tools/bench/timing.h"
#include "tools/run_main.h"

namespace phi::bench {
namespace {

using kernels::Backend;
using kernels::DType;

// Phi-1.
constexpr int64_t kHidden = 2048;
constexpr int64_t kMlp = 8192;
constexpr int64_t kVocab = 51200;
constexpr int64_t kQkv = 3 * kHidden;
constexpr int64_t kPrefillRows = 512;
constexpr int64_t kMaxRows = 512;

struct Settings {
  std::string isa = "auto";
  std::string dtype = "bfloat16";
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  int layers = 24;
  int repeats = 5;
  bool decode = true;
  bool prefill = true;
};

// Random values of a small, cheap distribution.
std::vector<float> RandomFloats(int64_t count, float scale) {
  std::minstd_rand random(7);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values)
    value = scale * (static_cast<float>(random() % 2001) / 1000.0F - 1.0F);
  return values;
}

uint64_t Hash(std::span<const float> values) {  // FNV-1a over the bits
  uint64_t hash = 14695981039346656037U;
  for (const float value : values) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    hash = (hash ^ bits) * 1099511628211U;
  }
  return hash;
}

template <class T>
T Value(absl::StatusOr<T> value) {
  PHI_CHECK(value.ok(), "%s", value.status().ToString().c_str());
  return *std::move(value);
}

// The weights and activations of a rank that holds all of Phi-1, as far as products need them.
class Products {
 public:
  Products(const Settings& settings, Backend& backend)
      : backend_(backend),
        bias_(RandomFloats(kVocab, 0.1F)),
        qkv_(kMaxRows * kQkv),
        partial_(kMaxRows * kHidden),
        logits_(static_cast<size_t>(kMaxLogits * kVocab)) {
    const std::vector<float> random = RandomFloats(kVocab * kHidden, 0.05F);
    for (int i = 0; i < settings.layers; ++i) {
      in_.push_back(Pack(random, kQkv + kMlp, kHidden));
      out_.push_back(Pack(random, kHidden, kHidden + kMlp));
    }
    head_ = Pack(random, kVocab, kHidden);
    normed_ = Value(backend.Allocate(kMaxRows * kHidden * kernels::DTypeBytes(backend.dtype())));
    concat_ =
        Value(backend.Allocate(kMaxRows * (kHidden + kMlp) * kernels::DTypeBytes(backend.dtype())));
    const std::vector<float> hidden = RandomFloats(kMaxRows * kHidden, 1.0F);
    const std::vector<float> ones(kHidden, 1.0F);
    Begin(kMaxRows);
    backend.LayerNorm(hidden.data(), kHidden, {ones.data(), bias_.data(), 1e-5F}, normed());
    backend.LayerNorm(hidden.data(), kHidden, {ones.data(), bias_.data(), 1e-5F}, concat());
  }

  // Bytes of weights that a step reads.
  double WeightBytes() const {
    double bytes = static_cast<double>(head_->bytes());
    for (const auto& weight : in_) bytes += static_cast<double>(weight->bytes());
    for (const auto& weight : out_) bytes += static_cast<double>(weight->bytes());
    return bytes;
  }

  // All products of one decode step of `rows` sequences.
  void DecodeStep(int64_t rows) {
    Begin(rows);
    for (size_t i = 0; i < in_.size(); ++i) {
      InProjection(i);
      OutProjection(i);
    }
    backend_.LmHead(normed(), *head_, bias_.data(), logits_.data());
  }
  void Begin(int64_t rows) {
    tokens_.assign(static_cast<size_t>(rows), 0);
    logits_rows_.clear();
    for (int64_t row = 0; row < std::min<int64_t>(rows, kMaxLogits); ++row)
      logits_rows_.push_back(static_cast<int32_t>(row));
    backend_.BeginStep({.token_ids = tokens_,
                        .positions = tokens_,
                        .sequences = {},
                        .block_ids = {},
                        .logits_rows = logits_rows_});
  }
  void InProjection(size_t layer) {
    kernels::Operands mlp = concat();
    mlp.data += kHidden * static_cast<int64_t>(kernels::DTypeBytes(backend_.dtype()));
    backend_.InProjection(normed(), *in_[layer % in_.size()], bias_.data(), kQkv, qkv_.data(), mlp);
  }
  void OutProjection(size_t layer) {
    backend_.OutProjection(concat(), *out_[layer % out_.size()], partial_.data());
  }

  uint64_t LogitsHash(int64_t rows) const {
    return Hash(std::span(logits_).first(static_cast<size_t>(rows * kVocab)));
  }
  uint64_t FirstRowHash() const { return LogitsHash(1); }

 private:
  static constexpr int64_t kMaxLogits = 16;

  std::unique_ptr<kernels::PackedMatrix> Pack(const std::vector<float>& values,
                                              int64_t rows,
                                              int64_t cols) {
    const kernels::WeightSlice slice = {.data = reinterpret_cast<const std::byte*>(values.data()),
                                        .dtype = DType::kFloat32,
                                        .rows = rows,
                                        .cols = cols,
                                        .row_stride = cols};
    return Value(backend_.PackMatrix(rows, cols, std::span(&slice, 1)));
  }
  kernels::Operands normed() { return {normed_->data(), kHidden}; }
  kernels::Operands concat() { return {concat_->data(), kHidden + kMlp}; }

  Backend& backend_;
  std::vector<float> bias_;
  std::vector<std::unique_ptr<kernels::PackedMatrix>> in_;
  std::vector<std::unique_ptr<kernels::PackedMatrix>> out_;
  std::unique_ptr<kernels::PackedMatrix> head_;
  std::unique_ptr<kernels::DeviceBuffer> normed_;
  std::unique_ptr<kernels::DeviceBuffer> concat_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> logits_rows_;
  std::vector<float> qkv_;
  std::vector<float> partial_;
  std::vector<float> logits_;
};

// Prints what each variant reaches and returns the three best.
std::vector<ReadVariant> PrintReads(ReadBench& reads, int repeats) {
  std::vector<std::pair<double, ReadVariant>> results;
  for (const ReadVariant& variant : ReadVariants()) results.emplace_back(0.0, variant);
  for (int repeat = 0; repeat < repeats; ++repeat) {
    for (auto& [best, variant] : results) best = std::max(best, reads.Measure(variant));
  }
  std::printf("\nread bandwidth, GB/s, best of %d, by streams a thread and bytes of prefetch\n",
              repeats);
  std::printf("%-6s %8s %8s %8s %8s %8s\n", "pages", "streams", "0", "1024", "2048", "4096");
  for (size_t i = 0; i < results.size(); i += 4) {
    const ReadVariant& variant = results[i].second;
    std::printf("%-6s %8d", variant.huge_pages ? "huge" : "small", variant.streams);
    for (size_t j = i; j < i + 4; ++j) std::printf(" %8.1f", results[j].first);
    std::printf("\n");
  }
  std::partial_sort(
      results.begin(), results.begin() + 3, results.end(), [](const auto& a, const auto& b) {
        return a.first > b.first;
      });
  return {results[0].second, results[1].second, results[2].second};
}

// Batches and the best ways to read are interleaved, so that a noisy neighbour hits all of them
// alike.
void BenchDecode(const Settings& settings, Products& products) {
  constexpr int64_t kBatches[] = {1, 2, 4, 8, 16};
  kernels::ThreadPool pool(settings.threads);
  ReadBench reads(pool, size_t{512} << 20);
  const std::vector<ReadVariant> variants = PrintReads(reads, settings.repeats);
  std::vector<std::vector<double>> read_rates(variants.size());
  std::vector<std::vector<double>> seconds(std::size(kBatches));
  for (int repeat = 0; repeat < settings.repeats; ++repeat) {
    for (size_t i = 0; i < std::size(kBatches); ++i) {
      seconds[i].push_back(Seconds([&] { products.DecodeStep(kBatches[i]); }));
    }
    for (size_t i = 0; i < variants.size(); ++i)
      read_rates[i].push_back(reads.Measure(variants[i]));
  }
  double bandwidth = 0;
  for (const std::vector<double>& rates : read_rates)
    bandwidth = std::max(bandwidth, Median(rates));
  std::printf(
      "\ndecode: all products of a step, %d layers and head, %.2f GB of weights; medians of %d\n",
      settings.layers,
      products.WeightBytes() / 1e9,
      settings.repeats);
  std::printf("best read in between: %.1f GB/s\n", bandwidth);
  std::printf("%6s %9s %8s %9s %11s %11s   %s\n",
              "batch",
              "ms",
              "GB/s",
              "of read",
              "tokens/s",
              "x batch 1",
              "logits of row 0");
  const double first = Median(seconds[0]);
  for (size_t i = 0; i < std::size(kBatches); ++i) {
    const double median = Median(seconds[i]);
    const double rate = products.WeightBytes() / median / 1e9;
    const auto batch = static_cast<double>(kBatches[i]);
    products.DecodeStep(kBatches[i]);
    std::printf("%6ld %9.2f %8.1f %8.0f%% %11.1f %11.2f   %016lx\n",
                kBatches[i],
                median * 1e3,
                rate,
                100 * rate / bandwidth,
                batch / median,
                batch * first / median,
                products.FirstRowHash());
  }
}

// oneDNN's threads spin for some milliseconds after a product; let them fall asleep before ours are
// timed.
void LetOthersSleep() { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }

// A product, in our arithmetic or oneDNN's, that takes part in a comparison.
struct Contender {
  std::string name;
  std::function<void()> run;
  std::vector<double> seconds;
};

void AddDnnl(DType dtype, int64_t cols, int64_t outputs, std::vector<Contender>& contenders) {
  // Shared because std::function copies what it holds.
  std::shared_ptr<DnnlMatmul> product = DnnlMatmul::Create(dtype, kPrefillRows, cols, outputs);
  if (product == nullptr) return;
  const std::string name =
      "oneDNN " + std::string(kernels::DTypeName(dtype)) + ", " + product->Implementation();
  contenders.push_back({name, [product] { product->Run(); }, {}});
}

void BenchAgainstDnnl(const Settings& settings,
                      int64_t cols,
                      int64_t outputs,
                      std::function<void()> ours) {
  std::vector<Contender> contenders = {{"ours", std::move(ours), {}}};
  AddDnnl(DType::kFloat32, cols, outputs, contenders);
  AddDnnl(DType::kBFloat16, cols, outputs, contenders);
  for (Contender& contender : contenders) contender.run();  // warm up
  for (int repeat = 0; repeat < settings.repeats; ++repeat) {
    for (Contender& contender : contenders) {
      LetOthersSleep();
      contender.seconds.push_back(Seconds(contender.run));
    }
  }
  const double gigaflops = 2.0 * kPrefillRows * static_cast<double>(cols * outputs) / 1e9;
  double best = 0;
  std::printf("%ld inputs -> %ld outputs\n", cols, outputs);
  for (size_t i = 0; i < contenders.size(); ++i) {
    const double rate = gigaflops / Median(contenders[i].seconds);
    if (i > 0) best = std::max(best, rate);
    std::printf("  %-40s %8.0f GFLOP/s\n", contenders[i].name.c_str(), rate);
  }
  const double our_rate = gigaflops / Median(contenders[0].seconds);
  if (best > 0) std::printf("  ours is %.0f%% of oneDNN's best\n", 100 * our_rate / best);
}

void BenchPrefill(const Settings& settings, Products& products) {
  std::printf("\nprefill of %ld tokens\n", kPrefillRows);
  size_t layer = 0;
  products.Begin(kPrefillRows);
  BenchAgainstDnnl(settings, kHidden, kQkv + kMlp, [&] { products.InProjection(layer++); });
  BenchAgainstDnnl(settings, kHidden + kMlp, kHidden, [&] { products.OutProjection(layer++); });
}

int Main(int argc, char** argv) {
  Settings settings;
  CLI::App app(
      "Times the CPU kernels at Phi-1's sizes: decode against memory bandwidth, prefill against "
      "oneDNN.");
  app.add_option("--isa", settings.isa, "auto, avx2, avx512 or avx512_bf16")->capture_default_str();
  app.add_option("--dtype", settings.dtype, "bfloat16 or float32")->capture_default_str();
  app.add_option("--threads", settings.threads, "threads, of the reads and oneDNN too")
      ->capture_default_str();
  app.add_option("--layers", settings.layers, "layers; fewer start sooner")->capture_default_str();
  app.add_option("--repeats", settings.repeats, "timed runs of which the median counts")
      ->capture_default_str();
  app.add_flag("--decode,!--no-decode", settings.decode, "time decode");
  app.add_flag("--prefill,!--no-prefill", settings.prefill, "time prefill");
  CLI11_PARSE(app, argc, argv);

  const auto isa = kernels::ParseIsa(settings.isa);
  if (!isa.ok() || settings.layers < 1 || settings.repeats < 1) {
    std::fprintf(stderr,
                 "kernel_bench: %s\n",
                 isa.ok() ? "--layers and --repeats start at 1" : isa.status().ToString().c_str());
    return 2;
  }
  const DType dtype = settings.dtype == "float32" ? DType::kFloat32 : DType::kBFloat16;
  const auto backend =
      Value(kernels::MakeCpuBackend({.dtype = dtype, .threads = settings.threads, .isa = *isa}));
  ConfigureDnnl(settings.threads, *isa);
  std::printf(
      "%s, %s\n", backend->Description().c_str(), std::string(kernels::DTypeName(dtype)).c_str());
  Products products(settings, *backend);
  if (settings.decode) BenchDecode(settings, products);
  if (settings.prefill) BenchPrefill(settings, products);
  return 0;
}

}  // namespace
}  // namespace phi::bench

int main(int argc, char** argv) {
  return phi::tools::RunMain("kernel_bench", phi::bench::Main, argc, argv);
}
