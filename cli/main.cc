// SPDX-License-Identifier: Apache-2.0
#include <iostream>

#include "cli/command.h"

int main(int argc, char** argv) {
  return coffer::cli::run(argc, argv, std::cout, std::cerr);
}
