// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/sdf_folder.h"

namespace coffer::tests {

// Every function of an SDF library that Coffer calls.
inline auto every_sdf_function() {
  return testing::Values("SDF_OpenDevice", "SDF_CloseDevice", "SDF_OpenSession", "SDF_CloseSession",
                         "SDF_GetDeviceInfo", "SDF_GenerateRandom", "SDF_GenerateKeyWithKEK",
                         "SDF_ImportKeyWithKEK", "SDF_DestroyKey", "SDF_Encrypt", "SDF_Decrypt",
                         "SDF_HMACInit", "SDF_HMACUpdate", "SDF_HMACFinal");
}
inline std::string sdf_function_name(const testing::TestParamInfo<const char*>& function) {
  return function.param;
}

// One or more return values of every class, and what no standard has.
inline constexpr unsigned long kSdfFaults[] = {0x0100001D, 0x01000008, 0x01000003, 0x01000005,
                                               0x01000007, 0x01000018, 0x01000001, 0x0100000F,
                                               0x0100001C, 0x01000009, 0x01000015, 0xDEADBEEF};

// With each fault of `function`, once and at every call: `begin` makes a connection and sees it
// well; `use` is called on it and on a new one, which it makes itself if `anew`; `heal` is called
// when the fault is over. Each is told the fault's line.
template <class Begin, class Use, class Heal>
void with_every_fault(SdfFolder& folder, const char* function, Begin begin, Use use, Heal heal) {
  for (const bool every : {false, true}) {
    for (const auto value : kSdfFaults) {
      const auto line = fmt::format("{}{} return 0x{:x}\n", function, every ? "" : "@1", value);
      ASSERT_NO_FATAL_FAILURE(begin(line));
      folder.faults().set(line);
      for (const bool anew : {false, true}) use(line, anew);
      folder.faults().clear();
      heal(line);
    }
  }
}

}  // namespace coffer::tests
