#include "service/api/flags.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdio>
#include <utility>

#include "kernels/base/check.h"

namespace phi::service {
namespace {

// Reads "512MiB"; a bare number is bytes.
bool ParseBytes(std::string_view text, uint64_t* bytes) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *bytes);
  if (error != std::errc()) return false;
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  constexpr std::pair<std::string_view, int> kUnits[] = {
      {"", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
  for (const auto& [name, shift] : kUnits) {
    if (unit != name || *bytes > (UINT64_MAX >> shift)) continue;
    *bytes <<= shift;
    return true;
  }
  return false;
}

template <typename Number>
bool ParseNumber(std::string_view text, Number* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc() && end == text.data() + text.size();
}

bool IsHostPort(std::string_view text) {
  const size_t colon = text.rfind(':');
  uint16_t port = 0;
  return colon != std::string_view::npos && colon > 0 && ParseNumber(text.substr(colon + 1), &port);
}

bool ParseBool(std::string_view text, bool* value) {
  *value = text == "true" || text.empty();
  return *value || text == "false";
}

// Whether `text` was a value for the target.
bool Assign(const std::string& text, const FlagParser::Target& target) {
  struct Visitor {
    const std::string& text;
    bool operator()(std::string* value) const { return *value = text, true; }
    bool operator()(int* value) const { return ParseNumber(text, value); }
    bool operator()(uint32_t* value) const { return ParseNumber(text, value); }
    bool operator()(uint64_t* value) const { return ParseBytes(text, value); }
    bool operator()(bool* value) const { return ParseBool(text, value); }
    bool operator()(absl::Duration* value) const {
      return absl::ParseDuration(text, value) && *value >= absl::ZeroDuration() &&
             *value < absl::InfiniteDuration();
    }
  };
  return std::visit(Visitor{text}, target);
}

std::string Join(const std::vector<std::string>& choices) {
  std::string joined;
  for (const std::string& choice : choices) joined += (joined.empty() ? "" : "|") + choice;
  return joined;
}

size_t CountRows(Program program) {
  size_t count = 0;
  for (const FlagRow& row : FlagTable())
    count += (row.programs & static_cast<uint8_t>(program)) != 0 ? 1 : 0;
  return count;
}

}  // namespace

FlagParser::FlagParser(Program program, std::string name, std::string description)
    : program_(program), name_(std::move(name)), description_(std::move(description)) {}

void FlagParser::Bind(std::string_view name, Target target, std::vector<std::string> choices) {
  for (const FlagRow& row : FlagTable()) {
    if (row.name != name || (row.programs & static_cast<uint8_t>(program_)) == 0) continue;
    bindings_.push_back({&row, target, std::move(choices)});
    return;
  }
  PHI_CHECK(false, "no flag %s", std::string(name).c_str());
}

std::optional<ExitCode> FlagParser::Parse(int argc, const char* const* argv) {
  PHI_CHECK(bindings_.size() == CountRows(program_), "%zu flags bound", bindings_.size());
  const auto usage_error = [&](const std::string& message) {
    std::fprintf(stderr, "%s: %s (see %s --help)\n", name_.c_str(), message.c_str(), name_.c_str());
    return ExitCode::kUsage;
  };
  // CLI11 would take the next argument for the value of "--flag=".
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg(argv[i]);
    if (arg.starts_with("--") && arg.find('=') == arg.size() - 1)
      return usage_error(std::string(arg) + " has no value; leave it out");
  }
  std::vector<std::string> texts(bindings_.size());
  try {
    CLI::App app(description_, name_);
    app.set_version_flag("--version", name_ + " " PHI_VERSION);
    for (size_t i = 0; i < bindings_.size(); ++i) {
      const FlagRow& row = *bindings_[i].row;
      auto* option =
          app.add_option("--" + std::string(row.name), texts[i], std::string(row.meaning));
      option->type_name(std::string(row.value));
      if (row.value == "BOOL") option->expected(0, 1);
      if (row.default_value == kRequired) {
        option->required();
      } else {
        texts[i] = row.default_value;
        option->default_str(std::string(row.default_value));
      }
    }
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      if (error.get_exit_code() == 0) return static_cast<void>(app.exit(error)), ExitCode::kOk;
      return usage_error(error.what());
    }
  } catch (const CLI::Error& error) {
    PHI_CHECK(false, "%s", error.what());
  }
  for (size_t i = 0; i < bindings_.size(); ++i) {
    const auto& [row, target, choices] = bindings_[i];
    const bool known =
        choices.empty() || std::find(choices.begin(), choices.end(), texts[i]) != choices.end();
    const bool has_form = row->value != "HOST:PORT" || IsHostPort(texts[i]);
    if (known && has_form && Assign(texts[i], target)) continue;
    const std::string wanted = choices.empty() ? std::string(row->value) : Join(choices);
    return usage_error("--" + std::string(row->name) + " takes " + wanted + ", not '" + texts[i] +
                       "'");
  }
  return std::nullopt;
}

}  // namespace phi::service
