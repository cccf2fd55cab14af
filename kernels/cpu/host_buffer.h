#pragma once

#include <cstddef>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace phi::kernels {

// Zeroed host memory straight from the system: page-aligned, on huge pages where it is large (a
// decode step reads gigabytes in order, and small pages cost up to a third of the bandwidth),
// placed by whoever touches it first.
class HostBuffer final : public DeviceBuffer {
 public:
  HostBuffer() = default;
  ~HostBuffer() override;
  HostBuffer(HostBuffer&& other) noexcept;
  HostBuffer& operator=(HostBuffer&& other) noexcept;

  // RESOURCE_EXHAUSTED with the bytes when the system has no more. Zero bytes is fine.
  static absl::StatusOr<HostBuffer> Allocate(size_t bytes);

  std::byte* data() override { return data_; }
  const std::byte* data() const { return data_; }
  size_t bytes() const override { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace phi::kernels
