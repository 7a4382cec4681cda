// SPDX-License-Identifier: Apache-2.0
#include "bench/keys_tokens.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>

#include "bench/bare_token.h"
#include "core/base/files.h"
#include "hsm/development_vault.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/support/softhsm.h"
#include "tests/support/vault_process.h"

namespace coffer::bench {
namespace {

using keyring::KeyVault;
using keyring::Presented;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kRounds = 5;
constexpr std::size_t kKeysPerRequest = 256;
constexpr double kGoalOfBare = 0.8;
constexpr double kGoalAboveBareUsec = 100;
constexpr double kGoalRooted = 200'000;
constexpr std::chrono::milliseconds kRoundTime{400};
constexpr std::size_t kCallersMax = 16;

template <class T>
T take(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().str());
  return std::move(*result);
}

template <class T>
void require_all(const std::vector<Result<T>>& results) {
  for (const auto& result : results) {
    if (!result) throw std::runtime_error(result.error().str());
  }
}

Deadline soon() {
  return Deadline::after(std::chrono::seconds(30));
}

keyring::KeyContext data_context() {
  keyring::KeyContext context;
  context.purpose = keyring::Purpose::kEnvelopeData;
  context.key_bytes = 32;
  return context;
}

std::vector<KeyVault::Plain> plain_keys() {
  std::vector<KeyVault::Plain> keys(kKeysPerRequest);
  for (auto& key : keys) key = {take(SecretBytes::random(32)), data_context()};
  return keys;
}

// A CMK of a vault, whose uses are leased as they are needed.
class Cmk {
 public:
  explicit Cmk(KeyVault& vault, std::optional<keyring::Protection> protection = {})
      : vault_(vault) {
    keyring::CmkParameters parameters;
    parameters.alias = "bench";
    parameters.protection = protection;
    record_ = take(vault.create_cmk(parameters));
    count();
  }

  std::vector<Result<keyring::WrappedKey>> wrap(std::span<const KeyVault::Plain> keys) {
    if (left_ < keys.size()) {
      record_ = take(vault_.change_cmk(record_, keyring::CmkChange::kLease));
      count();
    }
    left_ -= keys.size();
    return vault_.wrap(record_, keys, soon());
  }
  std::vector<Result<SecretBytes>> unwrap(std::span<const Presented> keys) const {
    return vault_.unwrap(record_, keys, soon());
  }

 private:
  void count() {
    const auto leased = take(keyring::CmkRecord::decode(record_)).current().wraps_leased;
    left_ += leased - leased_;
    leased_ = leased;
  }

  KeyVault& vault_;
  keyring::SealedRecord record_;
  std::uint64_t leased_ = 0;
  std::uint64_t left_ = 0;
};

double usec_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// Calls per second, of one thread over a round.
double rate_of(const std::function<void()>& call) {
  call();
  const auto start = Clock::now();
  double usec = 0;
  std::size_t calls = 0;
  do {
    call();
    ++calls;
    usec = usec_since(start);
  } while (usec < std::chrono::duration<double, std::micro>(kRoundTime).count());
  return static_cast<double>(calls) * 1e6 / usec;
}

// What single calls took in microseconds, by `callers` threads at once over a round, sorted.
std::vector<double> times_of(std::size_t callers, const std::function<void(std::size_t)>& call) {
  std::vector<std::vector<double>> times(callers);
  std::vector<std::thread> threads;
  threads.reserve(callers);
  const auto end = Clock::now() + kRoundTime;
  for (std::size_t i = 0; i < callers; ++i) {
    threads.emplace_back([&times, &call, end, i] {
      while (Clock::now() < end) {
        const auto start = Clock::now();
        call(i);
        times[i].push_back(usec_since(start));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::vector<double> all;
  for (const auto& mine : times) all.insert(all.end(), mine.begin(), mine.end());
  std::ranges::sort(all);
  return all;
}

double quantile(const std::vector<double>& sorted, double part) {
  const auto last = static_cast<double>(sorted.size() - 1);
  return sorted.at(static_cast<std::size_t>(part * last));
}

// Two ways of one thing, measured by turns.
struct Pair {
  std::vector<double> bare;
  std::vector<double> vault;
};

std::vector<double> combine(const Pair& pair, const std::function<double(double, double)>& with) {
  std::vector<double> made;
  made.reserve(pair.bare.size());
  for (std::size_t i = 0; i < pair.bare.size(); ++i)
    made.push_back(with(pair.bare[i], pair.vault[i]));
  return made;
}

void add_rates(std::vector<Figure>& figures, const std::string& what, const Pair& pair) {
  figures.push_back({"bare " + what, "keys/s", spread_of(pair.bare), {}});
  figures.push_back({"vault " + what, "keys/s", spread_of(pair.vault), {}});
  figures.push_back(
      {"vault / bare " + what, "times",
       spread_of(combine(pair, [](double bare, double vault) { return vault / bare; })),
       Goal{GoalKind::kAtLeast, kGoalOfBare}});
}

// A vault process and the bare token beside it, on one token of SoftHSM.
class Tokens {
 public:
  Tokens() {
    // As the vault's unit starts it; this process has read its own already.
    ::setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=100", 1);
    const std::string module = tests::softhsm_module_path();
    if (module.empty()) throw std::runtime_error("SoftHSM is not installed");
    take(folder_.make_token(module, kLabel));
    worker_ = std::make_unique<tests::DeliverySocket>(folder_.path(), sink_);
    tests::VaultProcess::Options options;
    options.folder = &folder_;
    options.label = kLabel;
    options.deliver_socket = worker_->path();
    process_ = take(tests::VaultProcess::start(options));
    cmk_.emplace(process_->client());
    const auto pin = take(read_file(folder_.pin_file(kLabel).string(), 64));
    bare_ = std::make_unique<BareToken>(
        module, kLabel, std::string(reinterpret_cast<const char*>(pin.data()), pin.size()),
        kCallersMax);
  }

  Cmk& cmk() { return *cmk_; }
  BareToken& bare() { return *bare_; }

 private:
  static constexpr const char* kLabel = "bench";
  tests::SoftHsmFolder folder_;
  tests::FakeDekSink sink_;
  std::unique_ptr<tests::DeliverySocket> worker_;
  std::unique_ptr<tests::VaultProcess> process_;
  std::optional<Cmk> cmk_;
  std::unique_ptr<BareToken> bare_;
};

std::vector<Presented> presented(const std::vector<Result<keyring::WrappedKey>>& wrapped) {
  require_all(wrapped);
  std::vector<Presented> keys;
  keys.reserve(wrapped.size());
  for (const auto& one : wrapped) keys.push_back({*one, data_context()});
  return keys;
}

void measure_batches(Tokens& tokens, std::vector<Figure>& figures) {
  const auto plain = plain_keys();
  const auto wrapped = presented(tokens.cmk().wrap(plain));
  std::vector<Bytes> sealed;
  sealed.reserve(plain.size());
  for (const auto& key : plain) sealed.push_back(tokens.bare().encrypt(0, key.key.reveal()));

  constexpr double kKeys = kKeysPerRequest;
  Pair wraps;
  Pair unwraps;
  for (std::size_t round = 0; round < kRounds; ++round) {
    wraps.bare.push_back(kKeys * rate_of([&] {
                           for (const auto& key : plain) tokens.bare().encrypt(0, key.key.reveal());
                         }));
    wraps.vault.push_back(kKeys * rate_of([&] { require_all(tokens.cmk().wrap(plain)); }));
    unwraps.bare.push_back(kKeys * rate_of([&] {
                             for (const auto& one : sealed) tokens.bare().decrypt(0, one);
                           }));
    unwraps.vault.push_back(kKeys * rate_of([&] { require_all(tokens.cmk().unwrap(wrapped)); }));
  }
  add_rates(figures, "wrap, 256 a request", wraps);
  add_rates(figures, "unwrap, 256 a request", unwraps);
}

void measure_single(Tokens& tokens, std::vector<Figure>& figures) {
  const auto plain = plain_keys();
  const auto wrapped = presented(tokens.cmk().wrap(std::span(plain).first(1)));
  std::vector<Bytes> sealed;
  sealed.reserve(kCallersMax);
  for (std::size_t i = 0; i < kCallersMax; ++i)
    sealed.push_back(tokens.bare().encrypt(i, plain[0].key.reveal()));
  for (const std::size_t callers : {1U, 4U, 16U}) {
    Pair middle;
    Pair slow;
    for (std::size_t round = 0; round < kRounds; ++round) {
      const auto bare =
          times_of(callers, [&](std::size_t i) { tokens.bare().decrypt(i, sealed[i]); });
      const auto vault =
          times_of(callers, [&](std::size_t) { require_all(tokens.cmk().unwrap(wrapped)); });
      middle.bare.push_back(quantile(bare, 0.5));
      middle.vault.push_back(quantile(vault, 0.5));
      slow.bare.push_back(quantile(bare, 0.99));
      slow.vault.push_back(quantile(vault, 0.99));
    }
    const std::string by = ", " + std::to_string(callers) + (callers == 1 ? " caller" : " callers");
    figures.push_back({"bare unwrap p50" + by, "us", spread_of(middle.bare), {}});
    figures.push_back({"vault unwrap p50" + by, "us", spread_of(middle.vault), {}});
    figures.push_back(
        {"vault - bare unwrap p50" + by, "us",
         spread_of(combine(middle, [](double bare, double vault) { return vault - bare; })),
         Goal{GoalKind::kAtMost, kGoalAboveBareUsec}});
    figures.push_back({"bare unwrap p99" + by, "us", spread_of(slow.bare), {}});
    figures.push_back({"vault unwrap p99" + by, "us", spread_of(slow.vault), {}});
  }
}

}  // namespace

std::vector<Figure> measure_tokens() {
  std::vector<Figure> figures;
  Tokens tokens;
  measure_batches(tokens, figures);
  measure_single(tokens, figures);
  return figures;
}

std::vector<Figure> measure_rooted() {
  tests::FakeDekSink sink;
  const auto vault = take(hsm::open_development_vault({}, sink));
  Cmk cmk(*vault, keyring::Protection::kRooted);
  const auto plain = plain_keys();
  const auto wrapped = presented(cmk.wrap(plain));
  std::vector<double> wraps;
  std::vector<double> unwraps;
  for (std::size_t round = 0; round < kRounds; ++round) {
    constexpr double kKeys = kKeysPerRequest;
    wraps.push_back(kKeys * rate_of([&] { require_all(cmk.wrap(plain)); }));
    unwraps.push_back(kKeys * rate_of([&] { require_all(cmk.unwrap(wrapped)); }));
  }
  const Goal goal{GoalKind::kAtLeast, kGoalRooted};
  return {{"rooted AES-256 wrap, 256 a request", "keys/s", spread_of(wraps), goal},
          {"rooted AES-256 unwrap, 256 a request", "keys/s", spread_of(unwraps), goal}};
}

}  // namespace coffer::bench
