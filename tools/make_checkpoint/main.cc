// make_checkpoint: a random PhiForCausalLM in the format of the Hugging Face hub.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <string>
#include <thread>

#include "service/api/exit_code.h"
#include "tools/make_checkpoint/model_shape.h"
#include "tools/make_checkpoint/random_checkpoint.h"
#include "tools/run_main.h"

namespace phi::tools {
namespace {

constexpr const char* kDescription =
    "Writes a random Phi model: config.json, *.safetensors and tokenizer.json, which transformers\n"
    "(PhiForCausalLM) and phi-serve load. Its text is noise, but every part of the model is at "
    "work, so\n"
    "it serves for tests and for measuring. The same flags give the same bytes on every machine.\n";

constexpr const char* kExamples =
    "Examples:\n"
    "  make_checkpoint /tmp/phi-1 --preset phi-1                  2.8 GB, bfloat16\n"
    "  make_checkpoint /tmp/odd --preset tiny --num_attention_heads 5 --hidden_size 65 \\\n"
    "      --num_key_value_heads 1 --tie_word_embeddings --dtype float16 --shards 3\n"
    "  make_checkpoint /tmp/real-ids --preset phi-1 --tokenizer phi-1/tokenizer.json\n";

struct Flags {
  std::string preset = "phi-1";
  ModelShape shape;  // what the flags say on top of the preset
  std::string config_style = "rope_parameters";
  bool quiet = false;
};

std::string PresetNames() {
  std::string names;
  for (const Preset& preset : Presets())
    names += (names.empty() ? "" : ", ") + std::string(preset.name);
  return names;
}

// Presets come first, whatever the order on the command line: so the preset is looked up before the
// other flags are bound to its numbers.
const ModelShape* FindPreset(const std::string& name) {
  for (const Preset& preset : Presets()) {
    if (preset.name == name) return &preset.shape;
  }
  return nullptr;
}

void AddShapeFlags(CLI::App& app, ModelShape& shape) {
  constexpr const char* kGroup =
      "Shape (names and meanings of config.json; defaults are the preset's)";
  const auto add = [&app](const char* name, auto& value, const char* help) {
    app.add_option(name, value, help)->group(kGroup);
  };
  add("--vocab_size", shape.vocab_size, "Rows of embedding and head");
  add("--hidden_size", shape.hidden_size, "Width of the residual stream");
  add("--intermediate_size", shape.intermediate_size, "Width of the MLP");
  add("--num_hidden_layers", shape.num_hidden_layers, "Layers");
  add("--num_attention_heads", shape.num_attention_heads, "Query heads");
  add("--num_key_value_heads",
      shape.num_key_value_heads,
      "Key-value heads; a divisor of the heads");
  add("--head_dim", shape.head_dim, "Width of a head, if not hidden_size / num_attention_heads");
  add("--max_position_embeddings", shape.max_position_embeddings, "Longest context");
  add("--partial_rotary_factor", shape.partial_rotary_factor, "Share of a head that is rotated");
  add("--rope_theta", shape.rope_theta, "Base of the rotary frequencies");
  add("--layer_norm_eps", shape.layer_norm_eps, "Epsilon of the LayerNorms");
  app.add_flag("--tie_word_embeddings", shape.tie_word_embeddings, "The head is the embedding")
      ->group(kGroup);
  app.add_option("--dtype", shape.dtype, "float32, float16 or bfloat16")
      ->check(CLI::IsMember({"float32", "float16", "bfloat16"}))
      ->group(kGroup);
}

// One line that is written over itself on a terminal, a line for each tenth elsewhere; nothing for
// what takes no time.
void PrintProgress(uint64_t done, uint64_t total) {
  constexpr uint64_t kWorthShowing = 100'000'000;
  static uint64_t last_shown = 0;
  if (total < kWorthShowing) return;
  const bool is_terminal = ::isatty(STDERR_FILENO) != 0;
  const uint64_t shown = done * 100 / total;
  const uint64_t next = std::min<uint64_t>(last_shown + (is_terminal ? 1 : 10), 100);
  if (shown < next || last_shown == 100) return;
  last_shown = shown;
  std::fprintf(stderr,
               "%s%3d%% of %.2f GB%s",
               is_terminal ? "\r" : "",
               static_cast<int>(shown),
               static_cast<double>(total) / 1e9,
               is_terminal && shown < 100 ? "" : "\n");
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "make_checkpoint: %s\n", std::string(status.message()).c_str());
  const bool usage = absl::IsAlreadyExists(status);
  return static_cast<int>(usage ? service::ExitCode::kUsage : service::ExitCode::kModelOrData);
}

// The value of --preset, found before the flags are parsed as a whole; the default where it is not
// given.
std::string PeekPreset(int argc, char** argv) {
  std::string preset = Flags().preset;
  CLI::App app;
  app.allow_extras();
  app.set_help_flag();
  app.add_option("--preset", preset);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError&) {
    return preset;  // the whole parse says what is wrong
  }
  return preset;
}

int Main(int argc, char** argv) {
  RandomCheckpoint checkpoint;
  Flags flags;
  flags.preset = PeekPreset(argc, argv);
  const ModelShape* preset = FindPreset(flags.preset);
  if (preset != nullptr) checkpoint.shape = *preset;
  checkpoint.num_threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));

  CLI::App app(kDescription, "make_checkpoint");
  app.footer(kExamples);
  app.option_defaults()->always_capture_default();
  app.add_option("directory", checkpoint.dir, "Where to write; made if it is not there")
      ->required();
  app.add_option("--preset", flags.preset, "Shape to start from: " + PresetNames());
  app.add_option("--seed", checkpoint.seed, "Another seed, other weights");
  app.add_option("--shards", checkpoint.num_files, "Weights in that many files, with an index")
      ->check(CLI::Range(1, 999));
  app.add_option("--tokenizer",
                 checkpoint.tokenizer_path,
                 "tokenizer.json to copy; without it, ids are bytes and 256 is <|endoftext|>");
  app.add_option("--config_style",
                 flags.config_style,
                 "Where config.json has the rotary fields: rope_parameters or top")
      ->check(CLI::IsMember({"rope_parameters", "top"}));
  app.add_option("--threads", checkpoint.num_threads, "Threads; they change nothing but the time")
      ->check(CLI::Range(1, 256));
  app.add_flag("--overwrite", checkpoint.overwrite, "Replace the checkpoint that is there");
  app.add_flag("--quiet", flags.quiet, "No progress on stderr");
  AddShapeFlags(app, checkpoint.shape);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(service::ExitCode::kUsage);
  }
  if (preset == nullptr) {
    std::fprintf(stderr,
                 "make_checkpoint: --preset %s is not one of %s\n",
                 flags.preset.c_str(),
                 PresetNames().c_str());
    return static_cast<int>(service::ExitCode::kUsage);
  }
  checkpoint.style =
      flags.config_style == "top" ? ConfigStyle::kTopLevel : ConfigStyle::kRopeParameters;
  if (!flags.quiet) checkpoint.on_progress = PrintProgress;
  const absl::Status status = WriteRandomCheckpoint(checkpoint);
  return status.ok() ? 0 : Fail(status);
}

}  // namespace
}  // namespace phi::tools

int main(int argc, char** argv) {
  return phi::tools::RunMain("make_checkpoint", phi::tools::Main, argc, argv);
}
