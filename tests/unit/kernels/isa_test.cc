#include "kernels/cpu/isa.h"

#include <gtest/gtest.h>

#include <string>

#include "kernels/cpu/cpu_backend.h"

namespace phi::kernels {
namespace {

TEST(IsaTest, AutoIsTheBest) {
  ASSERT_FALSE(MachineIsas().empty());
  EXPECT_EQ(BestIsa(), MachineIsas().back());
  const absl::StatusOr<Isa> parsed = ParseIsa("auto");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(*parsed, BestIsa());
}

TEST(IsaTest, NamesRoundTrip) {
  for (const Isa isa : MachineIsas()) {
    const absl::StatusOr<Isa> parsed = ParseIsa(IsaName(isa));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, isa);
  }
}

TEST(IsaTest, WhatTheMachineLacksIsRefused) {
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16}) {
    const bool has = isa <= BestIsa();
    EXPECT_EQ(CheckIsa(isa).ok(), has);
    EXPECT_EQ(ParseIsa(IsaName(isa)).ok(), has);
    const auto backend = MakeCpuBackend({.threads = 1, .isa = isa});
    EXPECT_EQ(backend.ok(), has);
    if (has) continue;
    EXPECT_EQ(backend.status().code(), absl::StatusCode::kFailedPrecondition);
  }
}

TEST(IsaTest, UnknownNamesAreInvalid) {
  for (const char* name : {"", "AVX2", "avx", "avx512 ", "neon"}) {
    const absl::Status status = ParseIsa(name).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_NE(std::string(status.message()).find("auto, avx2, avx512, avx512_bf16"),
              std::string::npos);
  }
}

TEST(CpuBackendTest, RefusesWhatItCannotBe) {
  EXPECT_EQ(MakeCpuBackend({.dtype = DType::kFloat16}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeCpuBackend({.threads = 0}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(CpuBackendTest, DescribesItself) {
  const auto backend = MakeCpuBackend({.dtype = DType::kFloat32, .threads = 2, .isa = BestIsa()});
  ASSERT_TRUE(backend.ok()) << backend.status();
  EXPECT_EQ((*backend)->InstructionSet(), IsaName(BestIsa()));
  EXPECT_EQ((*backend)->Description(), "cpu " + std::string(IsaName(BestIsa())) + ", 2 threads");
  EXPECT_EQ((*backend)->dtype(), DType::kFloat32);
}

TEST(CpuBackendTest, MemoryIsZeroedAndAligned) {
  const auto backend = MakeCpuBackend({.threads = 1});
  ASSERT_TRUE(backend.ok()) << backend.status();
  for (const size_t bytes : {size_t{1}, size_t{100}, size_t{5} << 20}) {
    const auto buffer = (*backend)->Allocate(bytes);
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    EXPECT_EQ((*buffer)->bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>((*buffer)->data()) % 64, 0U);
    for (size_t i = 0; i < bytes; i += 997) ASSERT_EQ((*buffer)->data()[i], std::byte{0});
  }
}

TEST(CpuBackendTest, TooMuchMemoryIsRefusedWithTheBytes) {
  const auto backend = MakeCpuBackend({.threads = 1});
  ASSERT_TRUE(backend.ok()) << backend.status();
  const auto buffer = (*backend)->Allocate(size_t{1} << 60);
  EXPECT_EQ(buffer.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(std::string(buffer.status().message()).find("1152921504606846976"), std::string::npos);
}

}  // namespace
}  // namespace phi::kernels
