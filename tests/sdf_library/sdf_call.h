// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string_view>

#include "hsm/sdf_api.h"
#include "tests/sdf_library/sdf_device.h"

namespace coffer::tests::sdf {

// What a call gives back, for faults that spoil it.
struct Output {
  std::byte* bytes = nullptr;
  unsigned int* size = nullptr;       // Where the length stands; null:
  unsigned int fixed_size_bytes = 0;  // it is this.
};

// Does the faults that the script asks of `function` before the call; an error code to return at
// once, or kOk. tests/pkcs11_fault/fault_script.h has the script's language.
int before_call(std::string_view function);
// And those that come after it, which returned `done`: they spoil what it gave. Returns `done`.
int after_call(int done, const Output& output);

// The call `function`: its faults around `body()`.
template <class Body>
int in_call(std::string_view function, const Output& output, const Body& body) {
  if (const int fault = before_call(function); fault != 0) return fault;
  return after_call(static_cast<int>(body()), output);
}

// The call `function` of a session: its faults around `body(session)`.
template <class Body>
int in_session(std::string_view function, void* handle, const Output& output, const Body& body) {
  return in_call(function, output, [&] {
    const auto session = SdfDevice::instance().session(handle);
    return session ? body(*session) : hsm::sdf::Return{hsm::sdf::kInArgErr};
  });
}

}  // namespace coffer::tests::sdf
