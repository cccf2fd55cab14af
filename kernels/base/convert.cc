#include "kernels/base/convert.h"

namespace phi::kernels {
namespace {

template <class Reader, class To>
void ConvertTo(const std::byte* from, int64_t count, To (*convert)(float), std::byte* to) {
  auto* elements = reinterpret_cast<To*>(to);
  for (int64_t i = 0; i < count; ++i)
    elements[i] = convert(Reader::Read(from + i * Reader::kBytes));
}

}  // namespace

void ConvertRow(
    DType from_dtype, const std::byte* from, int64_t count, DType to_dtype, std::byte* to) {
  VisitReader(from_dtype, [&](auto reader) {
    using Reader = decltype(reader);
    switch (to_dtype) {
      case DType::kFloat32:
        return ConvertTo<Reader, float>(
            from, count, [](float value) { return value; }, to);
      case DType::kBFloat16:
        return ConvertTo<Reader, uint16_t>(from, count, FloatToBFloat16, to);
      case DType::kFloat16:
        return ConvertTo<Reader, uint16_t>(from, count, FloatToFloat16, to);
    }
  });
}

}  // namespace phi::kernels
