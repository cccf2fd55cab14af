#include "kernels/base/quoted.h"

#include <gtest/gtest.h>

#include <string>

namespace phi {
namespace {

TEST(Quoted, LeavesReadableTextAsItIs) {
  EXPECT_EQ(Quoted(""), "");
  EXPECT_EQ(Quoted("model.layers.0"), "model.layers.0");
  EXPECT_EQ(Quoted("größe"), "größe");
}

TEST(Quoted, EscapesWhatWouldBreakALine) {
  EXPECT_EQ(Quoted("a\nb\r\t\x01\"'\\"), R"(a\nb\r\t\x01\"\'\\)");
}

TEST(Quoted, CutsBetweenCharacters) {
  EXPECT_EQ(Quoted(std::string(160, 'x')), std::string(160, 'x'));
  EXPECT_EQ(Quoted(std::string(161, 'x')), std::string(160, 'x') + "...");
  // Characters of three bytes: 53 of them are 159 bytes.
  std::string wide;
  for (int i = 0; i < 60; ++i) wide += "€";
  EXPECT_EQ(Quoted(wide), wide.substr(0, 159) + "...");
}

TEST(Quoted, IsBoundedWhereNoCharacterEnds) {
  EXPECT_EQ(Quoted(std::string(1000, '\x80')).size(), 156 + 3);
}

}  // namespace
}  // namespace phi
