#pragma once

#include <string>
#include <vector>

#include "service/text/tokenizer.h"

namespace phi::service {

// A file of tests/golden/tokenizer/, decompressed if its name ends in .gz. Aborts if it is missing:
// the repository holds it.
std::string ReadGoldenFile(const std::string& name);

// Its lines, without their ends.
std::vector<std::string> ReadGoldenLines(const std::string& name);

// The tokenizer of Phi-1, 1.5 and 2, read once.
const Tokenizer& CodeGenTokenizer();

}  // namespace phi::service
