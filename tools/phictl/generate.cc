#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <memory>
#include <optional>

#include "phi/v1/generation.grpc.pb.h"
#include "service/api/exit_code.h"
#include "service/api/finish_reason.h"
#include "tools/phictl/commands.h"

namespace phi::phictl {
namespace {

struct GenerateArgs {
  std::string prompt;
  phi::v1::GenerateRequest request;
  bool json = false;
};

const std::map<std::string, phi::v1::StopCondition> kStopConditions = {
    {"line_end", phi::v1::STOP_CONDITION_LINE_END},
    {"blank_line", phi::v1::STOP_CONDITION_BLANK_LINE},
    {"dedent", phi::v1::STOP_CONDITION_DEDENT},
    {"top_level", phi::v1::STOP_CONDITION_TOP_LEVEL},
};

// A parameter that stays unset unless its flag is given.
template <typename T, typename Setter>
void AddParameter(CLI::App& command,
                  const std::string& name,
                  Setter setter,
                  const std::string& help) {
  command.add_option_function<T>("--" + name, setter, help);
}

void AddLogitBias(const std::string& entry, phi::v1::GenerationParameters& parameters) {
  const size_t separator = entry.find('=');
  uint32_t id = 0;
  float bias = 0;
  if (separator == std::string::npos ||
      !CLI::detail::lexical_cast(entry.substr(0, separator), id) ||
      !CLI::detail::lexical_cast(entry.substr(separator + 1), bias)) {
    throw CLI::ValidationError("--logit-bias", "not ID=BIAS: " + entry);
  }
  (*parameters.mutable_logit_bias())[id] = bias;
}

void AddSamplingFlags(CLI::App& command, phi::v1::GenerationParameters& parameters) {
  auto* p = &parameters;
  AddParameter<uint32_t>(
      command,
      "max-new-tokens",
      [p](uint32_t v) { p->set_max_new_tokens(v); },
      "Most tokens to generate");
  AddParameter<uint32_t>(
      command,
      "min-new-tokens",
      [p](uint32_t v) { p->set_min_new_tokens(v); },
      "Least tokens to generate");
  AddParameter<float>(
      command, "temperature", [p](float v) { p->set_temperature(v); }, "0 is greedy (the default)");
  AddParameter<uint32_t>(
      command,
      "top-k",
      [p](uint32_t v) { p->set_top_k(v); },
      "Draw from that many likeliest tokens");
  AddParameter<float>(
      command,
      "top-p",
      [p](float v) { p->set_top_p(v); },
      "Draw from the likeliest tokens of that mass");
  AddParameter<float>(
      command,
      "min-p",
      [p](float v) { p->set_min_p(v); },
      "Draw from tokens at least that likely, relative to the likeliest");
  AddParameter<uint64_t>(
      command, "seed", [p](uint64_t v) { p->set_seed(v); }, "Same seed, same tokens");
  AddParameter<float>(
      command, "repetition-penalty", [p](float v) { p->set_repetition_penalty(v); }, "1 is none");
  AddParameter<float>(
      command, "frequency-penalty", [p](float v) { p->set_frequency_penalty(v); }, "0 is none");
  AddParameter<float>(
      command, "presence-penalty", [p](float v) { p->set_presence_penalty(v); }, "0 is none");
  AddParameter<uint32_t>(
      command, "n", [p](uint32_t v) { p->set_n(v); }, "Samples, shown one after the other");
  command
      .add_option_function<std::vector<std::string>>(
          "--logit-bias",
          [p](const std::vector<std::string>& entries) {
            for (const std::string& entry : entries) AddLogitBias(entry, *p);
          },
          "ID=BIAS: added to that token's logit; may be given several times")
      ->expected(1)
      ->allow_extra_args(false)
      ->take_all();
  AddParameter<uint32_t>(
      command,
      "logprobs",
      [p](uint32_t v) { p->set_logprobs(v); },
      "Log-probabilities of that many tokens (shown by --json)");
  AddParameter<uint32_t>(
      command,
      "truncate-prompt",
      [p](uint32_t v) { p->set_truncate_prompt(v); },
      "Keep that many tokens of the prompt's end");
}

void AddStopFlags(CLI::App& command, phi::v1::GenerationParameters& parameters) {
  auto* p = &parameters;
  command
      .add_option_function<std::vector<std::string>>(
          "--stop",
          [p](const std::vector<std::string>& v) { p->mutable_stop()->Assign(v.begin(), v.end()); },
          "Text to end at; may be given several times")
      ->expected(1)
      ->allow_extra_args(false)
      ->take_all();
  command
      .add_option_function<std::vector<uint32_t>>(
          "--stop-token-id",
          [p](const std::vector<uint32_t>& v) {
            p->mutable_stop_token_ids()->Assign(v.begin(), v.end());
          },
          "Token id to end at; may be given several times")
      ->expected(1)
      ->allow_extra_args(false)
      ->take_all();
  command
      .add_option_function<std::vector<std::string>>(
          "--stop-condition",
          [p](const std::vector<std::string>& names) {
            for (const std::string& name : names) {
              const auto found = kStopConditions.find(name);
              if (found == kStopConditions.end())
                throw CLI::ValidationError("--stop-condition", "unknown: " + name);
              p->add_stop_conditions(found->second);
            }
          },
          "line_end, blank_line, dedent or top_level; may be given several times")
      ->expected(1)
      ->allow_extra_args(false)
      ->take_all();
  command.add_flag_callback(
      "--include-stop", [p] { p->set_include_stop(true); }, "Keep the stop in the text");
  command.add_flag_callback(
      "--ignore-eos", [p] { p->set_ignore_eos(true); }, "Go on after the end-of-text token");
  command.add_option_function<double>(
      "--time-limit",
      [p](double seconds) {
        p->mutable_time_limit()->set_seconds(static_cast<int64_t>(seconds));
        p->mutable_time_limit()->set_nanos(static_cast<int32_t>(
            (seconds - static_cast<double>(static_cast<int64_t>(seconds))) * 1e9));
      },
      "Seconds after which the text so far is the answer");
}

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + 1e-9 * duration.nanos();
}

void PrintSummary(const phi::v1::GenerateStreamResponse& last, uint32_t num_samples) {
  const auto& usage = last.summary().usage();
  const auto& timings = last.summary().timings();
  const double decode = Seconds(timings.total()) - Seconds(timings.time_to_first_token());
  const bool colour = isatty(STDERR_FILENO) == 1;
  const std::string of = num_samples > 1 ? "in " + std::to_string(num_samples) + " samples"
                                         : service::FinishReasonName(last.finish().reason());
  std::fprintf(stderr,
               "%s%u prompt tokens, %u generated (%s); first token after %.1f ms, ",
               colour ? "\033[2m" : "",
               usage.prompt_tokens(),
               usage.generated_tokens(),
               of.c_str(),
               1e3 * Seconds(timings.time_to_first_token()));
  if (usage.cached_prompt_tokens() > 0)
    std::fprintf(stderr, "%u prompt tokens cached, ", usage.cached_prompt_tokens());
  if (usage.generated_tokens() > 1 && decode > 0) {
    std::fprintf(stderr, "then %.1f tokens/s, ", (usage.generated_tokens() - 1) / decode);
  }
  std::fprintf(stderr, "%.2f s in all%s\n", Seconds(timings.total()), colour ? "\033[0m" : "");
}

// Shows the answer as it grows; of several samples each in whole at the end, since they grow at
// once. On a terminal the prompt stands before it, dimmed, because the answer continues it.
class Printer {
 public:
  explicit Printer(const GenerateArgs& args)
      : json_(args.json),
        one_sample_(args.request.parameters().n() <= 1),
        tty_(!args.json && isatty(STDOUT_FILENO) == 1) {
    if (tty_) std::printf("\033[2m%s\033[0m", args.request.text().c_str());
  }

  void Print(const phi::v1::GenerateStreamResponse& message) {
    if (json_) {
      google::protobuf::util::JsonPrintOptions options;
      options.preserve_proto_field_names = true;
      std::string line;
      (void)google::protobuf::util::MessageToJsonString(message, &line, options);
      std::printf("%s\n", line.c_str());
    } else if (one_sample_) {
      PrintText(message.text());
    } else {
      Sample& sample = samples_[message.index()];
      sample.text += message.text();
      if (message.has_finish())
        sample.finish = service::FinishReasonName(message.finish().reason());
    }
    std::fflush(stdout);
  }

  // So that the shell's prompt does not stick to the text.
  void End() {
    for (const auto& [index, sample] : samples_) {
      if (!at_line_start_) std::printf("\n");
      std::printf("--- sample %u (%s)\n", index, sample.finish.c_str());
      at_line_start_ = true;
      PrintText(sample.text);
    }
    if ((tty_ || !one_sample_) && !json_ && !at_line_start_) std::printf("\n");
    std::fflush(stdout);
  }

 private:
  struct Sample {
    std::string text;
    std::string finish = "cut off";
  };

  void PrintText(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    if (!text.empty()) at_line_start_ = text.back() == '\n';
  }

  const bool json_;
  const bool one_sample_;
  const bool tty_;
  std::map<uint32_t, Sample> samples_;
  bool at_line_start_ = false;
};

int RunGenerate(GenerateArgs& args, const Connection& connection) {
  std::string prompt;
  if (!ReadText(args.prompt, prompt)) return static_cast<int>(service::ExitCode::kUsage);
  args.request.set_text(prompt);
  const auto stub = phi::v1::TextGeneration::NewStub(Connect(connection));
  const auto context = NewContext(connection);
  const auto reader = stub->GenerateStream(context.get(), args.request);
  phi::v1::GenerateStreamResponse message;
  phi::v1::GenerateStreamResponse last;
  std::optional<Printer> printer;
  while (reader->Read(&message)) {
    if (!printer.has_value()) printer.emplace(args);
    printer->Print(message);
    last = message;
  }
  if (printer.has_value()) printer->End();
  const grpc::Status status = reader->Finish();
  if (!status.ok()) return ReportError(status, connection);
  if (!args.json) PrintSummary(last, args.request.parameters().n());
  return 0;
}

}  // namespace

Command AddGenerate(CLI::App& app) {
  auto args = std::make_shared<GenerateArgs>();  // shared by the flags' callbacks, which the app
                                                 // keeps, and the command
  CLI::App* command =
      app.add_subcommand("generate", "Continues a prompt; the text streams to standard output");
  command->add_option("prompt", args->prompt, "The prompt; - or nothing reads standard input");
  phi::v1::GenerationParameters& parameters = *args->request.mutable_parameters();
  AddSamplingFlags(*command, parameters);
  AddStopFlags(*command, parameters);
  command->add_option_function<std::string>(
      "--request-id",
      [args](const std::string& v) { args->request.set_request_id(v); },
      "Named in the server's log");
  command->add_option_function<std::string>(
      "--model",
      [args](const std::string& v) { args->request.set_model(v); },
      "Fail unless this model is served");
  command->add_flag("--json", args->json, "One JSON object a message of the stream");
  return [args](const Connection& connection) { return RunGenerate(*args, connection); };
}

}  // namespace phi::phictl
