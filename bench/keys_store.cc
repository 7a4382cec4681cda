// SPDX-License-Identifier: Apache-2.0
#include "bench/keys_store.h"

#include <chrono>
#include <functional>
#include <iostream>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>

#include "core/base/clock.h"
#include "core/keyring/key_store.h"
#include "core/keyring/stored_records.h"
#include "hsm/development_vault.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/support/temp_dir.h"

namespace coffer::bench {
namespace {

using keyring::KeyVault;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kRounds = 5;
constexpr std::size_t kCallsPerRound = 4000;
constexpr std::size_t kCreatesPerRound = 100;  // Few: they add to the store.
constexpr std::size_t kInUse = 1000;
constexpr double kGoalTimesLonger = 1.5;
constexpr std::uint64_t kIntent = 1;

template <class T>
T take(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().str());
  return std::move(*result);
}

void require(const Result<void>& done) {
  if (!done) throw std::runtime_error(done.error().str());
}

Deadline soon() {
  return Deadline::after(std::chrono::seconds(30));
}

// A store with keys in it.
class Stocked {
 public:
  Stocked(KeyVault& vault, std::size_t count) : vault_(vault) {
    store_ = take(keyring::open_sqlite_key_store((folder_.path() / "keyring.db").string()));
    ids_.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      const auto record = create();
      if (i % (count / kInUse) == 0 && in_use_.size() < kInUse) in_use_.push_back(wrap(record));
    }
  }

  keyring::SealedRecord create() {
    keyring::CmkParameters parameters;
    parameters.alias = alias_of(ids_.size());
    parameters.id = take(CmkId::made_at(system_clock().wall()));
    auto record = take(vault_.create_cmk(parameters));
    require(store_->put(record, 0, kIntent));
    ids_.push_back(*parameters.id);
    return record;
  }
  // Each record once, so that what is measured then is not the first touch of its page.
  void warm_up() {
    for (const auto& id : ids_) take(store_->get(id));
  }
  // Which keys the next `calls` calls are about.
  void draw(std::size_t calls) {
    drawn_.clear();
    for (std::size_t i = 0; i < calls; ++i) {
      const auto number = any(ids_.size());
      drawn_.push_back({ids_[number], alias_of(number), &in_use_[any(in_use_.size())]});
    }
  }
  void look_up_id(std::size_t call) { take(keyring::read_record(*store_, drawn_[call].id)); }
  void look_up_alias(std::size_t call) {
    take(keyring::read_record_by_alias(*store_, drawn_[call].alias));
  }
  void unwrap(std::size_t call) {
    const auto& key = *drawn_[call].in_use;
    const auto record = take(store_->get(key.blob.cmk));
    auto plain = vault_.unwrap(record, {&key, 1}, soon());
    take(std::move(plain.at(0)));
  }

 private:
  static std::string alias_of(std::size_t number) { return "bench-" + std::to_string(number); }

  std::size_t any(std::size_t count) {
    return std::uniform_int_distribution<std::size_t>(0, count - 1)(random_);
  }

  keyring::Presented wrap(const keyring::SealedRecord& record) {
    keyring::KeyContext context;
    context.purpose = keyring::Purpose::kEnvelopeData;
    context.key_bytes = 32;
    const KeyVault::Plain plain{take(SecretBytes::random(32)), context};
    auto wrapped = vault_.wrap(record, {&plain, 1}, soon());
    return {take(std::move(wrapped.at(0))), context};
  }

  KeyVault& vault_;
  tests::TempDir folder_;
  std::unique_ptr<keyring::KeyStore> store_;
  std::vector<CmkId> ids_;
  std::vector<keyring::Presented> in_use_;
  struct Drawn {
    CmkId id;
    std::string alias;
    const keyring::Presented* in_use;
  };
  std::vector<Drawn> drawn_;
  std::minstd_rand random_;  // The same keys each time.
};

using Call = std::function<void(Stocked&, std::size_t)>;

double usec_each(std::size_t calls, Stocked& store, const Call& call) {
  store.draw(calls);
  const auto start = Clock::now();
  for (std::size_t i = 0; i < calls; ++i) call(store, i);
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count() /
         static_cast<double>(calls);
}

void measure(std::vector<Figure>& figures, const std::string& what, std::size_t calls, Stocked& few,
             Stocked& many, const Call& call) {
  std::vector<double> with_few;
  std::vector<double> with_many;
  std::vector<double> times;
  for (std::size_t round = 0; round < kRounds; ++round) {
    with_few.push_back(usec_each(calls, few, call));
    with_many.push_back(usec_each(calls, many, call));
    times.push_back(with_many.back() / with_few.back());
  }
  figures.push_back({what + ", a thousand keys", "us", spread_of(with_few), {}});
  figures.push_back({what + ", all keys", "us", spread_of(with_many), {}});
  figures.push_back({what + ", all / a thousand", "times", spread_of(times),
                     Goal{GoalKind::kAtMost, kGoalTimesLonger}});
}

}  // namespace

std::vector<Figure> measure_store(std::size_t many) {
  tests::FakeDekSink sink;
  const auto vault = take(hsm::open_development_vault({}, sink));
  Stocked with_few(*vault, kStoreKeysFew);
  std::cerr << "keys: makes " << many << " keys\n";
  Stocked with_many(*vault, many);
  std::cerr << "keys: made\n";

  with_few.warm_up();
  with_many.warm_up();

  std::vector<Figure> figures;
  measure(figures, "look up by id", kCallsPerRound, with_few, with_many,
          [](Stocked& store, std::size_t i) { store.look_up_id(i); });
  measure(figures, "look up by alias", kCallsPerRound, with_few, with_many,
          [](Stocked& store, std::size_t i) { store.look_up_alias(i); });
  measure(figures, "look up and unwrap", kCallsPerRound, with_few, with_many,
          [](Stocked& store, std::size_t i) { store.unwrap(i); });
  measure(figures, "create", kCreatesPerRound, with_few, with_many,
          [](Stocked& store, std::size_t) { store.create(); });
  return figures;
}

}  // namespace coffer::bench
