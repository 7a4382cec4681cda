// SPDX-License-Identifier: Apache-2.0
#include <iostream>

#include "cli/command.h"
#include "core/base/secret_bytes.h"

int main(int argc, char** argv) {
  // Some commands take secrets, or give them.
  if (const auto hidden = coffer::forbid_core_dumps(); !hidden) {
    std::cerr << "coffer: " << hidden.error().str() << "\n";
    return 71;  // EX_OSERR
  }
  return coffer::cli::run(argc, argv, std::cout, std::cerr);
}
