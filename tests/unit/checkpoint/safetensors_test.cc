#include "shard/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <string>

#include "tests/unit/checkpoint/scratch_dir.h"

namespace phi::shard {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

// U8 tensors of four bytes each.
std::string FileOf(const std::vector<std::string>& names) {
  std::string header = "{";
  for (size_t i = 0; i < names.size(); ++i) {
    header += (i == 0 ? "\"" : ",\"") + names[i] +
              R"(":{"dtype":"U8","shape":[4],"data_offsets":[)" + std::to_string(4 * i) + "," +
              std::to_string(4 * i + 4) + "]}";
  }
  return SafetensorsBytes(header + "}", 4 * names.size());
}

std::string MessageOf(const ScratchDir& dir) {
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(dir.path());
  return checkpoint.ok() ? "opened" : std::string(checkpoint.status().message());
}

TEST(CheckpointTest, GivesTensorsAsTheyLieInTheFile) {
  const ScratchDir dir;
  std::string file =
      SafetensorsBytes(R"({"odd":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                       R"("f32":{"dtype":"F32","shape":[2,1],"data_offsets":[1,9]},)"
                       R"("bf16":{"dtype":"BF16","shape":[1],"data_offsets":[9,11]},)"
                       R"("f16":{"dtype":"F16","shape":[0],"data_offsets":[11,11]}})",
                       11);
  const float values[2] = {1.5F, -2.0F};
  std::memcpy(file.data() + file.size() - 10, values, sizeof(values));
  dir.Write(kSingle, file);
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(dir.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT(checkpoint->TensorNames(), ElementsAre("bf16", "f16", "f32", "odd"));

  const absl::StatusOr<TensorView> tensor = checkpoint->Find("f32");
  ASSERT_TRUE(tensor.ok());
  EXPECT_EQ(tensor->dtype, kernels::DType::kFloat32);
  EXPECT_THAT(tensor->shape, ElementsAre(2, 1));
  ASSERT_EQ(tensor->bytes.size(), sizeof(values));
  EXPECT_EQ(std::memcmp(tensor->bytes.data(), values, sizeof(values)), 0);
  EXPECT_EQ(checkpoint->Find("bf16")->dtype, kernels::DType::kBFloat16);
  EXPECT_EQ(checkpoint->Find("f16")->dtype, kernels::DType::kFloat16);

  EXPECT_THAT(std::string(checkpoint->Find("odd").status().message()),
              HasSubstr("tensor odd has dtype U8"));
  EXPECT_EQ(checkpoint->Find("odd").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(checkpoint->Find("other").status().code(), absl::StatusCode::kNotFound);
  // Dropped pages are read again.
  checkpoint->DropPages(*tensor);
  EXPECT_EQ(std::memcmp(tensor->bytes.data(), values, sizeof(values)), 0);
}

TEST(CheckpointTest, ReadsAnIndexThroughSymlinksAsAHuggingFaceCacheHasThem) {
  const ScratchDir blobs;
  const ScratchDir dir;
  blobs.Write("1111", FileOf({"a", "b"}));
  blobs.Write("2222", FileOf({"c"}));
  blobs.Write(
      "3333",
      R"({"metadata":{"total_size":12},"weight_map":{"a":"m-1.safetensors","b":"m-1.safetensors",)"
      R"("c":"m-2.safetensors"}})");
  std::filesystem::create_symlink(blobs.File("1111"), dir.File("m-1.safetensors"));
  std::filesystem::create_symlink(blobs.File("2222"), dir.File("m-2.safetensors"));
  std::filesystem::create_symlink(blobs.File("3333"), dir.File(kIndex));
  dir.Write("pytorch_model.bin", "ignored beside safetensors");
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(dir.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT(checkpoint->TensorNames(), ElementsAre("a", "b", "c"));
}

TEST(CheckpointTest, RefusesAnIndexThatDoesNotMatchItsFiles) {
  struct Case {
    const char* index;
    const char* message;
  };
  const Case cases[] = {
      {R"({"weight_map":{"a":"1.safetensors","z":"1.safetensors"}})",
       "tensor z is not in 1.safetensors"},
      {R"({"weight_map":{"a":"1.safetensors","b":"1.safetensors","c":"1.safetensors"}})",
       "tensor c is not in"},
      {R"({"weight_map":{"a":"1.safetensors"}})", "tensor b is not in the index"},
      {R"({"weight_map":{"a":"1.safetensors","b":"1.safetensors","c":"3.safetensors"}})",
       "3.safetensors"},
      {R"({"weight_map":{"a":"4.safetensors"}})", "tensor a is in another file too"},
      {R"({"weight_map":{"a":"../1.safetensors"}})", "not the plain name"},
      {R"({"weight_map":{"a":"/etc/1.safetensors"}})", "not the plain name"},
      {R"({"weight_map":{"a":"1.bin"}})", "not the plain name"},
      {R"({"weight_map":{"a":7}})", "not the plain name"},
      {R"({"weight_map":["a"]})", "`weight_map` is not an object"},
      {R"({"metadata":{}})", "`weight_map` is not an object"},
      {R"({"weight_map":{"a":"1.safetensors","a":"1.safetensors"}})", "the key a comes twice"},
      {R"({"metadata":[[[[[[1]]]]]],"weight_map":{}})", "nested too deep"},
      {R"({"weight_map":)", "not valid JSON"},
      {R"([])", "not a JSON object"},
  };
  const ScratchDir dir;
  dir.Write("1.safetensors", FileOf({"a", "b"}));
  dir.Write("4.safetensors", FileOf({"a"}));
  for (const Case& row : cases) {
    std::string index = row.index;
    // Naming both files that hold "a" brings both in.
    if (index.find("4.safe") != index.npos)
      index = R"({"weight_map":{"a":"4.safetensors","b":"1.safetensors"}})";
    dir.Write(kIndex, index);
    EXPECT_THAT(MessageOf(dir), HasSubstr(row.message)) << row.index;
  }
}

TEST(CheckpointTest, RefusesPicklesByNameWithTheWayOut) {
  for (const char* name :
       {"pytorch_model.bin", "model.pt", "consolidated.00.pth", "model.ckpt", "model.pkl"}) {
    const ScratchDir dir;
    dir.Write(name, "\x80\x02");
    EXPECT_THAT(MessageOf(dir), HasSubstr(name));
    EXPECT_THAT(MessageOf(dir), HasSubstr("safe_serialization=True"));
  }
}

TEST(CheckpointTest, SaysWhatIsNotThere) {
  const ScratchDir dir;
  EXPECT_THAT(MessageOf(dir),
              HasSubstr("neither model.safetensors nor model.safetensors.index.json"));
  const absl::Status missing = Checkpoint::Open(dir.File("nowhere")).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("nowhere"));
}

TEST(CheckpointTest, RefusesWhatIsNoRegularFile) {
  const ScratchDir directory;
  std::filesystem::create_directory(directory.File(kSingle));
  EXPECT_THAT(MessageOf(directory), HasSubstr("is not a regular file"));
  const ScratchDir fifo;  // which nobody writes to: opening it must not wait
  ASSERT_EQ(::mkfifo(fifo.File(kSingle).c_str(), 0600), 0);
  EXPECT_THAT(MessageOf(fifo), HasSubstr("is not a regular file"));
}

TEST(CheckpointTest, NamesTheFileOfAMalformedHeader) {
  const ScratchDir dir;
  dir.Write(kSingle, "");
  EXPECT_THAT(MessageOf(dir), HasSubstr("model.safetensors: has 0 bytes"));
}

TEST(CheckpointTest, SeesAFileThatWasTruncatedSinceItWasOpened) {
  const ScratchDir dir;
  dir.Write(kSingle, FileOf({"a"}));
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(dir.path());
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_TRUE(checkpoint->CheckUnchanged().ok());
  std::filesystem::resize_file(dir.File(kSingle), 20);
  EXPECT_THAT(std::string(checkpoint->CheckUnchanged().message()), HasSubstr("was changed"));
}

}  // namespace
}  // namespace phi::shard
