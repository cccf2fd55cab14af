#include "tests/unit/text/golden_data.h"

#include <zlib.h>

#include <array>
#include <sstream>

#include "kernels/base/check.h"

namespace phi::service {

std::string ReadGoldenFile(const std::string& name) {
  const std::string path = PHI_SOURCE_DIR "/tests/golden/tokenizer/" + name;
  // zlib passes through what is not compressed.
  gzFile file = gzopen(path.c_str(), "rb");
  PHI_CHECK(file != nullptr, "cannot open %s", path.c_str());
  std::string content;
  std::array<char, 1 << 16> block;
  int size = 0;
  while ((size = gzread(file, block.data(), block.size())) > 0) {
    content.append(block.data(), static_cast<size_t>(size));
  }
  PHI_CHECK(size == 0, "cannot decompress %s", path.c_str());
  gzclose(file);
  return content;
}

std::vector<std::string> ReadGoldenLines(const std::string& name) {
  std::istringstream stream(ReadGoldenFile(name));
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

const Tokenizer& CodeGenTokenizer() {
  static const Tokenizer tokenizer = [] {
    auto loaded = Tokenizer::FromJson(ReadGoldenFile("tokenizer.json.gz"));
    PHI_CHECK(loaded.ok(), "%s", std::string(loaded.status().message()).c_str());
    return *std::move(loaded);
  }();
  return tokenizer;
}

}  // namespace phi::service
