#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

#include "absl/status/status.h"
#include "service/telemetry/metric_page.h"

// One line a message on standard error, as text or JSON. A line is at most 4096 bytes and written
// at once, so lines of several processes on one pipe do not mix. Serving goes before logging: where
// standard error takes nothing, the line is dropped and counted, and nobody waits.
//
//   LogInfo("rank started", {{"rank", rank}, {"pid", pid}});
//
// Never a prompt, a generated text or a token list.
namespace phi::service {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };

struct LogOptions {
  std::string program;          // in every line: "phi-worker", "phi-worker rank 1"
  std::string format = "text";  // --log_format: text or json
  std::string level =
      "info";  // --log_level: debug, info, warning or error; lower ones are not written
  MetricPage::Series dropped;  // phi_log_dropped_total
  int fd = 2;                  // where lines go; stays the caller's
};

// Before the first message, by main. INVALID_ARGUMENT for an unknown format or level. Not
// thread-safe.
absl::Status StartLogging(const LogOptions& options);

struct LogField {
  using Value = std::variant<bool, int64_t, double, std::string_view>;

  template <typename T>
  LogField(std::string_view name, const T& from) : key(name), value(ToValue(from)) {}

  template <typename T>
  static Value ToValue(const T& from) {
    if constexpr (std::same_as<T, bool>) {
      return from;
    } else if constexpr (std::integral<T>) {
      return static_cast<int64_t>(from);
    } else if constexpr (std::floating_point<T>) {
      return static_cast<double>(from);
    } else {
      return std::string_view(from);
    }
  }

  // lower_snake_case; not one of a line's own: time, level, program, process_id, message.
  std::string_view key;
  Value value;  // views live until the call returns
};

// Any thread; before StartLogging: as text at level info.
void Log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields = {});

inline void LogDebug(std::string_view message, std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kDebug, message, fields);
}
inline void LogInfo(std::string_view message, std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kInfo, message, fields);
}
inline void LogWarning(std::string_view message, std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kWarning, message, fields);
}
inline void LogError(std::string_view message, std::initializer_list<LogField> fields = {}) {
  Log(LogLevel::kError, message, fields);
}

}  // namespace phi::service
