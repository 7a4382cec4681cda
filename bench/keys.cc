// SPDX-License-Identifier: Apache-2.0
// `./dev bench keys [--json] [--keys N] [--only PART]`: how fast keys are used. Exits with 1 when a
// goal is missed. N is how many keys the large store has, for quick looks; PART is one of ciphers,
// rooted, store, tokens.
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "bench/keys_ciphers.h"
#include "bench/keys_store.h"
#include "bench/keys_tokens.h"

namespace {

struct Arguments {
  bool json = false;
  std::string_view only;
  std::size_t keys = coffer::bench::kStoreKeys;
};

bool parse(const std::vector<std::string_view>& words, Arguments& out) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--json") {
      out.json = true;
    } else if (words[i] == "--only" && i + 1 < words.size()) {
      out.only = words[++i];
    } else if (words[i] == "--keys" && i + 1 < words.size()) {
      const auto text = words[++i];
      const auto end = text.data() + text.size();
      const auto [at, error] = std::from_chars(text.data(), end, out.keys);
      if (error != std::errc() || at != end) return false;
      if (out.keys <= coffer::bench::kStoreKeysFew || out.keys > coffer::bench::kStoreKeys)
        return false;
    } else {
      return false;
    }
  }
  return out.only.empty() || out.only == "ciphers" || out.only == "rooted" || out.only == "store" ||
         out.only == "tokens";
}

std::vector<coffer::bench::Figure> measure(const Arguments& arguments) {
  std::vector<coffer::bench::Figure> figures;
  const auto add = [&](std::string_view part, const auto& measured) {
    if (!arguments.only.empty() && arguments.only != part) return;
    for (auto& figure : measured()) figures.push_back(std::move(figure));
  };
  add("ciphers", coffer::bench::measure_ciphers);
  add("rooted", coffer::bench::measure_rooted);
  add("tokens", coffer::bench::measure_tokens);
  add("store", [&] { return coffer::bench::measure_store(arguments.keys); });
  return figures;
}

// Begins anew with what cofferd's unit sets, which is read when a program begins. Comes back when
// it is set already, to this or to what the caller wants to see instead.
void run_as_cofferd_does(char** argv) {
  if (std::getenv("GLIBC_TUNABLES") != nullptr) return;
  ::setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", 1);
  ::execv("/proc/self/exe", argv);
  throw std::runtime_error("could not begin anew");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run_as_cofferd_does(argv);
    Arguments arguments;
    if (!parse(std::vector<std::string_view>(argv + 1, argv + argc), arguments)) {
      std::cerr << "keys: takes [--json] [--keys 1001 to 1000000] [--only "
                   "ciphers|rooted|store|tokens]\n";
      return 2;
    }
    return coffer::bench::report(measure(arguments), arguments.json);
  } catch (const std::exception& e) {
    std::cerr << "keys: " << e.what() << "\n";
    return 2;
  }
}
