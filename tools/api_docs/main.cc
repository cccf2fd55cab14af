// api_docs [--check] FILE: writes the tables between FILE's markers anew, or says whether they are
// up to date.

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "tools/api_docs/api_tables.h"
#include "tools/api_docs/marked_text.h"

namespace {

constexpr int kUsage = 64;

int Fail(const std::string& text) {
  std::fprintf(stderr, "api_docs: %s\n", text.c_str());
  return 1;
}

int Run(const std::string& path, bool check) {
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (text.empty()) return Fail("cannot read " + path);
  const auto written = phi::tools::ReplaceMarked(text, phi::tools::ApiTables());
  if (!written.ok()) return Fail(path + ": " + std::string(written.status().message()));
  if (*written == text) return 0;
  if (check) return Fail(path + " differs from the code's tables; run api_docs " + path);
  std::ofstream out(path);
  out << *written;
  return out.flush() ? 0 : Fail("cannot write " + path);
}

}  // namespace

int main(int argc, char** argv) {
  const bool check = argc == 3 && std::string_view(argv[1]) == "--check";
  if (argc != 2 && !check) {
    std::fprintf(stderr, "usage: api_docs [--check] FILE\n");
    return kUsage;
  }
  return Run(argv[argc - 1], check);
}
