// SPDX-License-Identifier: Apache-2.0
// `./dev bench keys [--json]`: how fast keys are used. Exits with 1 when a goal is missed.
#include <cstring>
#include <exception>
#include <iostream>

#include "bench/keys_ciphers.h"
#include "bench/keys_tokens.h"

int main(int argc, char** argv) {
  try {
    const bool json = argc == 2 && std::strcmp(argv[1], "--json") == 0;
    if (argc > 1 && !json) {
      std::cerr << "keys: takes --json or nothing\n";
      return 2;
    }
    auto figures = coffer::bench::measure_ciphers();
    for (auto* const measure : {coffer::bench::measure_rooted, coffer::bench::measure_tokens}) {
      for (auto& figure : measure()) figures.push_back(std::move(figure));
    }
    return coffer::bench::report(figures, json);
  } catch (const std::exception& e) {
    std::cerr << "keys: " << e.what() << "\n";
    return 2;
  }
}
