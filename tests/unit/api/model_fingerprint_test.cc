#include "service/api/model_fingerprint.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace phi::service {
namespace {

class ModelFingerprintTest : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(dir_); }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void Write(const std::string& name, const std::string& content) const {
    std::ofstream(dir_ / name, std::ios::binary) << content;
  }
  const std::filesystem::path dir_ =
      ::testing::TempDir() + "phi_fingerprint_test." + std::to_string(getpid());
};

// Expected value: printf '{"a":1}{"b":2}' | sha256sum (coreutils 9.1)
TEST_F(ModelFingerprintTest, IsSha256OfBothFiles) {
  Write("config.json", "{\"a\":1}");
  Write("tokenizer.json", "{\"b\":2}");
  const auto fingerprint = ModelFingerprint(dir_.string());
  ASSERT_TRUE(fingerprint.ok()) << fingerprint.status();
  EXPECT_EQ(*fingerprint, "dad3c0d0a4f2e21f5ca84ada2e897b9246b8a01aff36a0909a7ed0dd5d9774e6");
}

TEST_F(ModelFingerprintTest, ChangesWithEitherFile) {
  Write("config.json", "{}");
  Write("tokenizer.json", std::string(200000, 'x'));
  const auto first = ModelFingerprint(dir_.string());
  Write("tokenizer.json", std::string(199999, 'x') + "y");
  const auto second = ModelFingerprint(dir_.string());
  Write("config.json", "{ }");
  const auto third = ModelFingerprint(dir_.string());
  ASSERT_TRUE(first.ok() && second.ok() && third.ok());
  EXPECT_NE(*first, *second);
  EXPECT_NE(*second, *third);
}

TEST_F(ModelFingerprintTest, NamesTheMissingFile) {
  Write("config.json", "{}");
  const auto fingerprint = ModelFingerprint(dir_.string());
  ASSERT_FALSE(fingerprint.ok());
  EXPECT_NE(std::string(fingerprint.status().message()).find("tokenizer.json"), std::string::npos);
}

}  // namespace
}  // namespace phi::service
