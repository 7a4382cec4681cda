// SPDX-License-Identifier: Apache-2.0
#include "tests/sdf_library/sdf_call.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>
#include <vector>

#include "tests/pkcs11_fault/fault_script.h"

namespace coffer::tests::sdf {
namespace {

// Those of the call under way that come after it.
thread_local std::vector<Fault> later;

[[noreturn]] void crash() {
  std::signal(SIGSEGV, SIG_DFL);
  std::raise(SIGSEGV);
  std::abort();
}

}  // namespace

int before_call(std::string_view function) {
  auto& script = FaultScript::instance();
  later = script.begin_call(function);
  if (script.was_removed()) SdfDevice::instance().drop_sessions();
  for (const auto& fault : later) {
    switch (fault.kind) {
      case FaultKind::kReturn:
        return static_cast<int>(fault.value);
      case FaultKind::kDelay:
        std::this_thread::sleep_for(std::chrono::milliseconds(fault.value));
        break;
      case FaultKind::kHang:
        for (;;) ::pause();
      case FaultKind::kCrash:
        crash();
      case FaultKind::kDrop:
        SdfDevice::instance().drop_sessions();
        break;
      default:
        break;
    }
  }
  const bool there = !script.removed() && SdfDevice::instance().there();
  return there ? hsm::sdf::kOk : hsm::sdf::kCommFail;
}

void after_call(const Output& output) {
  const unsigned int size = output.size != nullptr ? *output.size : output.fixed_size_bytes;
  for (const auto& fault : later) {
    if (fault.kind == FaultKind::kCrashAfter) crash();
    if (fault.kind == FaultKind::kFlip && output.bytes != nullptr && size > 0)
      output.bytes[size - 1] ^= std::byte{1};
    if (fault.kind == FaultKind::kZero && output.bytes != nullptr)
      std::fill_n(output.bytes, size, std::byte{0});
    if (fault.kind == FaultKind::kSize && output.size != nullptr)
      *output.size = static_cast<unsigned int>(fault.value);
  }
}

}  // namespace coffer::tests::sdf
