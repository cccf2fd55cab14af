#include "kernels/cpu/convert.h"

namespace phi::kernels {

void ConvertRow(
    DType from_dtype, const std::byte* from, int64_t count, DType to_dtype, std::byte* to) {
  VisitReader(from_dtype, [&](auto reader) {
    using Reader = decltype(reader);
    if (to_dtype == DType::kFloat32) {
      auto* floats = reinterpret_cast<float*>(to);
      for (int64_t i = 0; i < count; ++i) floats[i] = Reader::Read(from + i * Reader::kBytes);
    } else {
      auto* halves = reinterpret_cast<uint16_t*>(to);
      for (int64_t i = 0; i < count; ++i)
        halves[i] = FloatToBFloat16(Reader::Read(from + i * Reader::kBytes));
    }
  });
}

}  // namespace phi::kernels
