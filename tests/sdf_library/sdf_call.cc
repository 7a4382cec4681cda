// SPDX-License-Identifier: Apache-2.0
#include "tests/sdf_library/sdf_call.h"

#include <vector>

#include "tests/pkcs11_fault/fault_effects.h"

namespace coffer::tests::sdf {
namespace {

// Those of the call under way.
thread_local std::vector<Fault> faults;

void drop_sessions() {
  SdfDevice::instance().drop_sessions();
}

}  // namespace

int before_call(std::string_view function) {
  auto& script = FaultScript::instance();
  faults = script.begin_call(function);
  if (script.was_removed()) drop_sessions();
  if (const auto value = suffer_before(faults, drop_sessions)) return static_cast<int>(*value);
  const bool there = !script.removed() && SdfDevice::instance().there();
  return there ? hsm::sdf::kOk : hsm::sdf::kCommFail;
}

int after_call(int done, const Output& output) {
  if (done != hsm::sdf::kOk) {
    suffer_after(faults, {});
    return done;
  }
  const unsigned int size = output.size != nullptr ? *output.size : output.fixed_size_bytes;
  suffer_after(faults,
               output.bytes != nullptr ? std::span(output.bytes, size) : std::span<std::byte>());
  for (const auto& fault : faults) {
    if (fault.kind == FaultKind::kSize && output.size != nullptr)
      *output.size = static_cast<unsigned int>(fault.value);
  }
  return done;
}

}  // namespace coffer::tests::sdf
