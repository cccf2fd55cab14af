#include "service/telemetry/process_metrics.h"

#include <prometheus/metric_family.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>

namespace phi::service {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

struct ProcessStat {
  double cpu_seconds = 0;
  double start_seconds = 0;  // Unix time
  double resident_bytes = 0;
};

std::string ReadFile(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// The Unix time at which the machine started.
std::optional<double> BootSeconds() {
  std::istringstream lines(ReadFile("/proc/stat"));
  std::string line;
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string key;
    double value = 0;
    if (words >> key >> value && key == "btime") return value;
  }
  return std::nullopt;
}

// Source: proc(5), /proc/[pid]/stat; the command in field 2 may hold spaces and brackets, so fields
// are counted after it.
std::optional<ProcessStat> ReadStat() {
  const std::string text = ReadFile("/proc/self/stat");
  const size_t end_of_command = text.rfind(')');
  const std::optional<double> boot_seconds = BootSeconds();
  if (end_of_command == std::string::npos || !boot_seconds) return std::nullopt;
  std::istringstream words(text.substr(end_of_command + 1));
  constexpr int kUserTicks = 14;
  constexpr int kSystemTicks = 15;
  constexpr int kStartTicks = 22;
  constexpr int kResidentPages = 24;
  const auto ticks_per_second = static_cast<double>(::sysconf(_SC_CLK_TCK));
  ProcessStat stat;
  std::string word;
  for (int field = 3; field <= kResidentPages; ++field) {
    if (!(words >> word)) return std::nullopt;
    if (field != kUserTicks && field != kSystemTicks && field < kStartTicks) continue;
    const double value = std::stod(word);
    if (field == kUserTicks || field == kSystemTicks) stat.cpu_seconds += value / ticks_per_second;
    if (field == kStartTicks) stat.start_seconds = *boot_seconds + value / ticks_per_second;
    if (field == kResidentPages) {
      stat.resident_bytes = value * static_cast<double>(::sysconf(_SC_PAGESIZE));
    }
  }
  return stat;
}

MetricFamily Family(std::string name, MetricType type, std::string help, double value) {
  MetricFamily family;
  family.name = std::move(name);
  family.help = std::move(help);
  family.type = type;
  prometheus::ClientMetric metric;
  (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  family.metric.push_back(std::move(metric));
  return family;
}

}  // namespace

std::vector<MetricFamily> CollectProcessMetrics() {
  std::vector<MetricFamily> families;
  if (const auto stat = ReadStat()) {
    families.push_back(Family("process_cpu_seconds_total",
                              MetricType::Counter,
                              "User and system time of this process.",
                              stat->cpu_seconds));
    families.push_back(Family("process_resident_memory_bytes",
                              MetricType::Gauge,
                              "Resident memory of this process.",
                              stat->resident_bytes));
    families.push_back(Family("process_start_time_seconds",
                              MetricType::Gauge,
                              "When this process started (Unix time).",
                              stat->start_seconds));
  }
  std::error_code error;
  std::filesystem::directory_iterator fds("/proc/self/fd", error);
  if (!error) {
    // Less the one that reads the folder.
    const auto count = std::distance(begin(fds), end(fds)) - 1;
    families.push_back(Family("process_open_fds",
                              MetricType::Gauge,
                              "Open file descriptors.",
                              static_cast<double>(count)));
  }
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    families.push_back(Family("process_max_fds",
                              MetricType::Gauge,
                              "Limit of open file descriptors.",
                              static_cast<double>(limit.rlim_cur)));
  }
  return families;
}

}  // namespace phi::service
