// SPDX-License-Identifier: Apache-2.0
#include "tests/pkcs11_fault/fault_effects.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

namespace coffer::tests {
namespace {

[[noreturn]] void crash() {
  std::signal(SIGSEGV, SIG_DFL);
  std::raise(SIGSEGV);
  std::abort();
}

}  // namespace

std::optional<unsigned long> suffer_before(std::span<const Fault> faults,
                                           const std::function<void()>& drop_sessions) {
  for (const auto& fault : faults) {
    switch (fault.kind) {
      case FaultKind::kReturn:
        return fault.value;
      case FaultKind::kDelay:
        std::this_thread::sleep_for(std::chrono::milliseconds(fault.value));
        break;
      case FaultKind::kHang:
        for (;;) ::pause();
      case FaultKind::kCrash:
        crash();
      case FaultKind::kDrop:
        drop_sessions();
        break;
      default:
        break;
    }
  }
  return std::nullopt;
}

void suffer_after(std::span<const Fault> faults, std::span<std::byte> given) {
  for (const auto& fault : faults) {
    if (fault.kind == FaultKind::kCrashAfter) crash();
    if (fault.kind == FaultKind::kFlip && !given.empty()) given.back() ^= std::byte{1};
    if (fault.kind == FaultKind::kZero) std::ranges::fill(given, std::byte{0});
  }
}

}  // namespace coffer::tests
