// SPDX-License-Identifier: Apache-2.0
// What a test has to know about the sanitizers it was built with.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)  // GCC
#define COFFER_TEST_SANITIZED 1
#elif defined(__has_feature)  // clang
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COFFER_TEST_SANITIZED 1
#endif
#endif

namespace coffer::tests {

// AddressSanitizer and ThreadSanitizer make mlock() do nothing: what it promises cannot be seen.
#ifdef COFFER_TEST_SANITIZED
inline constexpr bool kMemoryLocks = false;
#else
inline constexpr bool kMemoryLocks = true;
#endif

}  // namespace coffer::tests
