#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <string>
#include <string_view>
#include <type_traits>

#include "absl/base/options.h"
#include "absl/synchronization/mutex.h"
#include "kernels/base/check.h"

// Linked into the test programs of the tsan preset. A distribution's absl is built without
// ThreadSanitizer's annotations, so that every access which one of its mutexes orders looks like a
// race. These definitions come before the library's: they tell ThreadSanitizer, and call the
// library's. Methods of absl::Mutex that we do not use are not here.
namespace {

#define PHI_TEXT_INNER(text) #text
#define PHI_TEXT(text) PHI_TEXT_INNER(text)

// The library's own method. `suffix` is its mangled name and parameters.
template <typename Function>
Function Next(std::string_view suffix) {
  constexpr std::string_view kNamespace = PHI_TEXT(ABSL_OPTION_INLINE_NAMESPACE_NAME);
  const std::string symbol = "_ZN4absl" + std::to_string(kNamespace.size()) +
                             std::string(kNamespace) + "5Mutex" + std::string(suffix);
  void* const found = dlsym(RTLD_NEXT, symbol.c_str());
  PHI_CHECK(found != nullptr, "no %s", symbol.c_str());
  return reinterpret_cast<Function>(found);
}

// A wait gives the mutex up and takes it again.
template <typename Call>
auto Wait(void* mutex, Call call) {
  __tsan_mutex_pre_unlock(mutex, 0);
  __tsan_mutex_post_unlock(mutex, 0);
  __tsan_mutex_pre_lock(mutex, 0);
  if constexpr (std::is_void_v<decltype(call())>) {
    call();
    __tsan_mutex_post_lock(mutex, 0, 0);
  } else {
    const auto result = call();
    __tsan_mutex_post_lock(mutex, 0, 0);
    return result;
  }
}

}  // namespace

namespace absl {
ABSL_NAMESPACE_BEGIN

void Mutex::Lock() {
  static const auto next = Next<void (*)(Mutex*)>("4LockEv");
  __tsan_mutex_pre_lock(this, 0);
  next(this);
  __tsan_mutex_post_lock(this, 0, 0);
}

void Mutex::Unlock() {
  static const auto next = Next<void (*)(Mutex*)>("6UnlockEv");
  __tsan_mutex_pre_unlock(this, 0);
  next(this);
  __tsan_mutex_post_unlock(this, 0);
}

void Mutex::Await(const Condition& condition) {
  static const auto next = Next<void (*)(Mutex*, const Condition&)>("5AwaitERKNS0_9ConditionE");
  Wait(this, [&] { next(this, condition); });
}

bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  static const auto next = Next<bool (*)(Mutex*, const Condition&, Duration)>(
      "16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  return Wait(this, [&] { return next(this, condition, timeout); });
}

ABSL_NAMESPACE_END
}  // namespace absl
