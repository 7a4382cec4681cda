// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <string_view>

#include "tests/support/fault_script_file.h"
#include "tests/support/softhsm.h"

namespace coffer::tests {

inline constexpr std::string_view kFailingLabel = "faulty";

// One token of SoftHSM behind the module of faults, for all tests of a program.
struct FailingSoftHsm {
  FailingSoftHsm() : script(folder.path()) {
    if (!folder.make_token(softhsm_module_path(), kFailingLabel)) std::abort();
  }
  SoftHsmFolder folder;
  FaultScriptFile script;
};
inline FailingSoftHsm& shared() {
  static FailingSoftHsm shared;
  return shared;
}

}  // namespace coffer::tests
