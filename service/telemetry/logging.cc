#include "service/telemetry/logging.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_format.h"
#include "service/telemetry/line_writer.h"

namespace phi::service {
namespace {

using Json = nlohmann::ordered_json;

// %v of a JSON line is the inside of an object, made in Log.
constexpr std::string_view kTextPattern = "%Y-%m-%dT%H:%M:%S.%fZ %l %n[%P] %v";
constexpr std::string_view kJsonPattern =
    R"({"time":"%Y-%m-%dT%H:%M:%S.%fZ","level":"%l","program":"%n","process_id":%P,%v})";

class NonblockingSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  NonblockingSink(const LogOptions& options, bool json)
      : writer_(options.fd), dropped_(options.dropped), json_(json) {}

  bool json() const { return json_; }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t buffer;
    formatter_->format(message, buffer);
    if (!writer_.Write({buffer.data(), buffer.size()})) dropped_.Add(1);
  }
  void flush_() override {}

 private:
  LineWriter writer_;
  MetricPage::Series dropped_;
  bool json_;
};

// JSON's escapes, with U+FFFD for what is not UTF-8.
std::string Quote(std::string_view text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string JsonValue(const LogField::Value& value) {
  if (const auto* text = std::get_if<std::string_view>(&value)) return Quote(*text);
  return std::visit([](const auto& plain) { return Json(plain).dump(); }, value);
}

std::string TextValue(const LogField::Value& value) {
  const auto* text = std::get_if<std::string_view>(&value);
  const bool plain = text != nullptr && !text->empty() &&
                     text->find_first_not_of(
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                         "0123456789_-.:/+,[]") == std::string_view::npos;
  return plain ? std::string(*text) : JsonValue(value);
}

// Room for time, level, program and process id beside the message; a longer message is cut so that
// the line stays whole.
constexpr size_t kMaxPayloadBytes = LineWriter::kMaxLineBytes - 256;

std::string JsonPayload(std::string_view message, std::initializer_list<LogField> fields) {
  std::string payload = "\"message\":" + Quote(message);
  for (const LogField& field : fields) {
    std::string member(1, ',');
    member.append(Quote(field.key)).append(1, ':').append(JsonValue(field.value));
    if (payload.size() + member.size() <= kMaxPayloadBytes) payload += member;
  }
  return payload;
}

std::string TextPayload(std::string_view message, std::initializer_list<LogField> fields) {
  std::string payload(message);
  // One message is one line, whatever a library put into it.
  for (char& c : payload) {
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  }
  for (const LogField& field : fields) {
    std::string member(1, ' ');
    member.append(field.key).append(1, '=').append(TextValue(field.value));
    if (payload.size() + member.size() <= kMaxPayloadBytes) payload += member;
  }
  return payload;
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

void Install(const LogOptions& options, spdlog::level::level_enum level) {
  const bool json = options.format == "json";
  auto sink =
      std::make_shared<NonblockingSink>(options, json);  // spdlog's API: shared with its logger
  auto logger = std::make_shared<spdlog::logger>(options.program, std::move(sink));
  logger->set_formatter(std::make_unique<spdlog::pattern_formatter>(
      std::string(json ? kJsonPattern : kTextPattern), spdlog::pattern_time_type::utc));
  logger->set_level(level);
  spdlog::set_default_logger(std::move(logger));
}

// The sink that Install put there, made on demand; spdlog's registry is the process's one logger.
NonblockingSink& CurrentSink() {
  static std::once_flag once;
  const auto find = [] {
    const auto& sinks = spdlog::default_logger_raw()->sinks();
    return sinks.empty() ? nullptr : dynamic_cast<NonblockingSink*>(sinks.front().get());
  };
  std::call_once(once, [&find] {
    LogOptions options;
    options.program = "phi";
    if (find() == nullptr) Install(options, spdlog::level::info);
  });
  return *find();
}

}  // namespace

absl::Status StartLogging(const LogOptions& options) {
  constexpr std::pair<std::string_view, LogLevel> kLevels[] = {{"debug", LogLevel::kDebug},
                                                               {"info", LogLevel::kInfo},
                                                               {"warning", LogLevel::kWarning},
                                                               {"error", LogLevel::kError}};
  if (options.format != "text" && options.format != "json") {
    return absl::InvalidArgumentError(
        absl::StrFormat("--log_format is %s, not text or json", Quote(options.format)));
  }
  for (const auto& [name, level] : kLevels) {
    if (options.level != name) continue;
    Install(options, ToSpdlog(level));
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "--log_level is %s, not debug, info, warning or error", Quote(options.level)));
}

void Log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  const NonblockingSink& sink = CurrentSink();
  spdlog::logger& logger = *spdlog::default_logger_raw();
  const auto spdlog_level = ToSpdlog(level);
  if (!logger.should_log(spdlog_level)) return;
  const std::string_view head = message.substr(0, kMaxPayloadBytes / 2);
  const std::string payload = sink.json() ? JsonPayload(head, fields) : TextPayload(head, fields);
  logger.log(spdlog_level, spdlog::string_view_t(payload.data(), payload.size()));
}

}  // namespace phi::service
