#include "service/worker/batching/sequence.h"

#include <algorithm>
#include <utility>

namespace phi::service {

void InsertByAge(std::unique_ptr<Sequence> sequence, SequenceList& list) {
  const auto place =
      std::upper_bound(list.begin(), list.end(), sequence, [](const auto& a, const auto& b) {
        return IsOlder(*a, *b);
      });
  list.insert(place, std::move(sequence));
}

}  // namespace phi::service
