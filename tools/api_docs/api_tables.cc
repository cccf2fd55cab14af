#include "tools/api_docs/api_tables.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "google/protobuf/descriptor.h"
#include "kernels/base/check.h"
#include "phi/v1/generation.pb.h"
#include "service/api/error.h"
#include "service/api/exit_code.h"
#include "service/api/flags.h"
#include "service/api/generation_parameters.h"
#include "service/telemetry/metric_catalog.h"
#include "service/telemetry/metric_labels.h"
#include "tools/api_docs/parameter_meanings.h"

namespace phi::tools {
namespace {

using google::protobuf::FieldDescriptor;

// Numbers that no limit of the API is near to, so that a limit which depends on the model shows by
// its value.
constexpr service::ModelLimits kMarkers = {.context_tokens = 1'000'003,
                                           .vocabulary_tokens = 2'000'003,
                                           .max_time_limit_seconds = 3'000'003};

std::string Number(double value) {
  if (value == kMarkers.context_tokens) return "context";
  if (value == kMarkers.vocabulary_tokens) return "vocabulary";
  if (value == kMarkers.vocabulary_tokens - 1.0) return "vocabulary - 1";
  if (value == kMarkers.max_time_limit_seconds) return "`--max_time_limit`";
  return absl::StrFormat("%.10g", value);
}

// A cell of a Markdown table holds no bar.
std::string Cell(std::string_view text) {
  std::string cell;
  for (const char c : text) {
    if (c == '|') cell += '\\';
    cell += c;
  }
  return cell;
}

class Table {
 public:
  explicit Table(const std::vector<std::string>& heads) {
    AddRow(heads);
    text_ += "|";
    for (size_t i = 0; i < heads.size(); ++i) text_ += "---|";
    text_ += "\n";
  }
  void AddRow(const std::vector<std::string>& cells) {
    text_ += "|";
    for (const std::string& cell : cells) text_ += " " + cell + " |";
    text_ += "\n";
  }
  std::string text() && { return std::move(text_); }

 private:
  std::string text_;
};

std::string TypeName(const FieldDescriptor& field) {
  if (field.is_map()) return "map<uint32, float>";
  const std::string prefix = field.is_repeated() ? "repeated " : "";
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) return prefix + field.enum_type()->name();
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    return prefix + field.message_type()->name();
  }
  return prefix + field.type_name();
}

std::string DefaultValue(const FieldDescriptor& field) {
  const phi::v1::GenerationParameters defaults = service::DefaultParameters();
  const auto* reflection = defaults.GetReflection();
  if (field.is_repeated() || !reflection->HasField(defaults, &field)) return "";
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_UINT32:
      return Number(reflection->GetUInt32(defaults, &field));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return Number(reflection->GetFloat(defaults, &field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection->GetBool(defaults, &field) ? "true" : "false";
    default:
      PHI_CHECK(false, "a default of type %s", field.cpp_type_name());
  }
}

std::string Range(const service::FieldLimitRow& row) {
  using Kind = service::FieldLimitRow::Kind;
  if (row.field == "parameters.stop_conditions") return "";
  const std::string unit = row.kind == Kind::kTextBytes ? " bytes" : "";
  return absl::StrFormat(
      "%s %s to %s%s", row.min_exclusive ? "above" : "", Number(row.min), Number(row.max), unit);
}

std::string ParametersTable() {
  Table table({"field", "type", "range", "items", "default", "meaning"});
  const std::vector<service::FieldLimitRow> limits = service::FieldLimits(kMarkers);
  const auto* descriptor = phi::v1::GenerationParameters::descriptor();
  PHI_CHECK(static_cast<size_t>(descriptor->field_count()) == ParameterMeanings().size(),
            "%d fields",
            descriptor->field_count());
  for (const ParameterMeaning& entry : ParameterMeanings()) {
    const FieldDescriptor* field = descriptor->FindFieldByName(std::string(entry.field));
    PHI_CHECK(field != nullptr, "no field %s", entry.field.data());
    const auto limit = std::find_if(limits.begin(), limits.end(), [&](const auto& row) {
      return row.field == "parameters." + std::string(entry.field);
    });
    const bool limited = limit != limits.end();
    std::string range = limited ? Range(*limit) : "";
    if (range.starts_with(' ')) range.erase(0, 1);
    table.AddRow(
        {"`" + std::string(entry.field) + "`",
         TypeName(*field),
         range,
         limited && limit->max_items > 0 ? "at most " + std::to_string(limit->max_items) : "",
         DefaultValue(*field),
         Cell(entry.meaning)});
  }
  return std::move(table).text();
}

std::string ErrorsTable() {
  Table table({"code", "reason", "when"});
  for (const service::ErrorReasonRow& row : service::ErrorReasons()) {
    const size_t code = service::LabelIndex(row.code).value();
    table.AddRow({std::string(service::CodeLabelValues()[code]),
                  "`" + std::string(row.name) + "`",
                  Cell(row.meaning)});
  }
  return std::move(table).text();
}

std::string FlagsTable(service::Program program) {
  Table table({"flag", "value", "default", "meaning"});
  for (const service::FlagRow& row : service::FlagTable()) {
    if ((row.programs & static_cast<uint8_t>(program)) == 0) continue;
    std::string value(row.default_value);
    if (!value.empty() && value != service::kRequired) value = absl::StrFormat("`%s`", value);
    table.AddRow(
        {"`--" + std::string(row.name) + "`", std::string(row.value), value, Cell(row.meaning)});
  }
  return std::move(table).text();
}

std::string ExitCodesTable() {
  Table table({"code", "meaning"});
  for (const service::ExitCodeRow& row : service::ExitCodes()) {
    table.AddRow({std::to_string(static_cast<int>(row.code)), Cell(row.meaning)});
  }
  return std::move(table).text();
}

std::string_view TypeWord(service::MetricType type) {
  constexpr std::array<std::string_view, 3> kWords = {"counter", "gauge", "histogram"};
  return kWords[static_cast<size_t>(type)];
}

std::string_view SourceWord(service::MetricSource source) {
  constexpr std::array<std::string_view, 5> kWords = {
      "router", "leader", "ranks", "supervisor", "all"};
  return kWords[static_cast<size_t>(source)];
}

// A label with the values it may take; `code` and `reason` name the tables that list theirs.
std::string LabelText(const service::MetricLabel& label) {
  std::string text = "`" + std::string(label.name) + "`";
  constexpr size_t kMostShown = 10;
  if (label.kind != service::LabelKind::kValues || label.values.size() > kMostShown) return text;
  text += ": ";
  for (size_t i = 0; i < label.values.size(); ++i) {
    if (i > 0) text += ", ";
    text += label.values[i];
  }
  return text;
}

std::string MetricsTable() {
  Table table({"metric", "type", "labels", "from", "meaning"});
  for (const service::MetricRow& row : service::MetricCatalog()) {
    std::string labels;
    for (const service::MetricLabel& label : row.labels) {
      labels += (labels.empty() ? "" : "; ") + LabelText(label);
    }
    table.AddRow({"`" + std::string(row.name) + "`",
                  std::string(TypeWord(row.type)),
                  labels,
                  std::string(SourceWord(row.source)),
                  Cell(row.help)});
  }
  constexpr std::array<std::array<std::string_view, 3>, 5> kProcess = {{
      {"process_cpu_seconds_total", "counter", "User and system time of this process."},
      {"process_resident_memory_bytes", "gauge", "Resident memory of this process."},
      {"process_start_time_seconds", "gauge", "When this process started (Unix time)."},
      {"process_open_fds", "gauge", "Open file descriptors."},
      {"process_max_fds", "gauge", "Limit of open file descriptors."},
  }};
  for (const auto& [name, type, meaning] : kProcess) {
    table.AddRow(
        {"`" + std::string(name) + "`", std::string(type), "", "all", std::string(meaning)});
  }
  return std::move(table).text();
}

std::string BucketsTable() {
  Table table({"histogram", "buckets"});
  for (const service::MetricRow& row : service::MetricCatalog()) {
    if (row.buckets.empty()) continue;
    std::string buckets;
    for (const double bound : row.buckets) {
      buckets += (buckets.empty() ? "" : " ") + absl::StrFormat("%g", bound);
    }
    table.AddRow({"`" + std::string(row.name) + "`", buckets});
  }
  return std::move(table).text();
}

}  // namespace

std::map<std::string, std::string> ApiTables() {
  return {{"parameters", ParametersTable()},
          {"errors", ErrorsTable()},
          {"router-flags", FlagsTable(service::Program::kRouter)},
          {"worker-flags", FlagsTable(service::Program::kWorker)},
          {"exit-codes", ExitCodesTable()},
          {"metrics", MetricsTable()},
          {"buckets", BucketsTable()}};
}

}  // namespace phi::tools
