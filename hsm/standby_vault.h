// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/keyring/key_store.h"
#include "core/keyring/key_vault.h"

namespace coffer::hsm {

// StandbyVault is one KeyVault of two whose tokens have the same root key: the active one serves,
// and the standby takes over when it is lost, until the active one has been well again for a while.
//
// A call that the active vault loses (its token or process is gone, hangs, or cannot log in) is
// made again on the standby, for the keys that were not served, when that is safe:
//
//   unwrap, deliver, sign, decrypt, change, create but of resident keys, import, random   is safe.
//     A key that may have reached the worker already is not delivered twice: the worker takes an
//     index once, and its refusal of the second one is told as the first one's error.
//   wrap, rewrap, make_deks, make_shared_dek   is not: a use that nobody counted, or a second DEK
//     for one volume. The caller is told, and its next call goes to the standby.
//
// While the other one is known to be well, the first attempt is given half of the call's time, so
// that one that hangs leaves time for the other.
//
// An answer that tells neither the data from the token (kHsmFailed) is asked for once more on the
// other vault; the first one counts as lost only when the other could. So data that are bad never
// make the two change places.
//
// present() goes to both, so that a record that is superseded for one is for the other; that the
// one in reserve cannot be reached is no error. What it missed is kept, and shown to it before it
// serves, and before it counts as well again: until then the error of the other one stands. Of a
// record that it missed while another process ran, nobody here knows: health() shows it all that
// the store has, page by page, which holds nobody up. One call at a time shows it; those that need
// it meanwhile wait for what comes of that, each within its own deadline; when its time is over
// before all is shown, one of them goes on.
//
// The standby serves only what it can: a record of another root key it refuses by itself, and it
// makes no key unless both were seen with one root key in this process.
//
// Thread-safe, as both vaults are. Errors as KeyVault; when both are lost, the active one's.
class StandbyVault final : public keyring::KeyVault {
 public:
  struct Member {
    std::string name;  // "local", for messages.
    keyring::KeyVault* vault = nullptr;
  };
  struct Options {
    Member active;
    Member standby;
    // The active one serves again when it was well at every look for so long. A look is a call of
    // health(): somebody has to call it now and then.
    std::chrono::milliseconds fail_back_after{30'000};
    // Told of every change of places, with the reason, on the thread that found out.
    std::function<void(const std::string& text)> on_switch;
    // What the one in reserve is shown; null: only what it missed in this process.
    keyring::KeyStore* store = nullptr;
    // How many records one that is away may miss (4096 take some 4 MiB). With more it is shown the
    // whole store before it serves.
    std::size_t missed_max = 4096;
    const Clock* clock = &system_clock();
  };
  explicit StandbyVault(Options options) : options_(std::move(options)) {}

  Result<keyring::SealedRecord> create_cmk(const keyring::CmkParameters& parameters) override;
  Result<keyring::SealedRecord> change_cmk(ByteView current,
                                           const keyring::CmkChange& change) override;
  Result<void> present(ByteView record) override;
  std::vector<Result<keyring::WrappedKey>> wrap(ByteView record, std::span<const Plain> keys,
                                                Deadline deadline) override;
  std::vector<Result<SecretBytes>> unwrap(ByteView record, std::span<const keyring::Presented> keys,
                                          Deadline deadline) override;
  std::vector<Result<keyring::WrappedKey>> make_deks(ByteView record,
                                                     std::span<const keyring::KeyContext> contexts,
                                                     const keyring::Ticket& ticket,
                                                     std::uint32_t first_index,
                                                     Deadline deadline) override;
  Result<keyring::SharedDek> make_shared_dek(const keyring::SharedDekRequest& request,
                                             Deadline deadline) override;
  std::vector<Result<void>> deliver(ByteView record, std::span<const keyring::Presented> keys,
                                    const keyring::Ticket& ticket,
                                    std::span<const std::uint32_t> indexes,
                                    Deadline deadline) override;
  std::vector<Result<keyring::WrappedKey>> rewrap(ByteView from, ByteView to,
                                                  std::span<const keyring::Rewrapped> keys,
                                                  Deadline deadline) override;
  std::vector<Result<Bytes>> sign(ByteView record, keyring::SignScheme scheme,
                                  std::span<const Bytes> digests, Deadline deadline) override;
  std::vector<Result<SecretBytes>> decrypt(ByteView record, keyring::DecryptScheme scheme,
                                           std::span<const Bytes> ciphertexts,
                                           Deadline deadline) override;
  Result<keyring::ImportParameters> prepare_import(ByteView current,
                                                   keyring::ImportWrapping wrapping) override;
  Result<keyring::SealedRecord> import_material(ByteView current,
                                                const keyring::ImportMaterial& material) override;
  Result<SecretBytes> random(std::size_t size_bytes) override;

  // Looks at both, and decides who serves. kUp when one of them can; the detail says who does, and
  // why the other does not.
  keyring::VaultHealth health() override;

 private:
  enum class Side : std::uint8_t { kActive, kStandby };
  enum class Again : std::uint8_t { kYes, kNo };

  static Side other(Side side) { return side == Side::kActive ? Side::kStandby : Side::kActive; }
  const Member& member(Side side) const {
    return side == Side::kActive ? options_.active : options_.standby;
  }
  keyring::KeyVault& vault(Side side) const { return *member(side).vault; }

  // How showing a vault something ended.
  enum class Shown : std::uint8_t { kAll, kLate, kRefused };
  // One caller at a time shows a vault something.
  struct Turn {
    bool taken = false;
    std::uint64_t ended = 0;  // How often.
    Shown last = Shown::kLate;
  };
  // For how long a caller waits for one who shows a vault something, and shows it itself: so long
  // from the beginning of its turn on, or, without a time, until its wait is over.
  struct ShowLimits {
    Deadline wait;
    std::optional<std::chrono::milliseconds> show{};
  };

  Side serving();
  Side serving_and_shown(const ShowLimits& limits);
  void switch_to(Side side, const std::string& why);
  // After a call that is not repeated was lost: whether the other one is well enough to serve; once
  // the call's time is over, by the last look at it.
  void look_at_other(Side lost, const Error& error, const ShowLimits& limits);
  bool same_root();
  // Whether `side` was shown all that the other one was, so that it may serve; shows it what it
  // missed.
  bool ready(Side side, const ShowLimits& limits);
  // Of calls without a deadline: their wait is longer than the turn of the one that shows.
  ShowLimits show_limits() const;
  bool is_behind(Side side);
  bool has_missed(Side side);
  // `show(until)`, once nobody else is at it; or what came of it where somebody was. Who waited for
  // one whose own time was over goes on where that one ended, for a time of its own.
  template <class Show>
  bool in_turn(Turn& turn, const ShowLimits& limits, Show show);
  bool show_missed(Side side, const ShowLimits& limits);
  Shown show_missed_now(Side side, Deadline deadline);
  bool show_store(Side side, const ShowLimits& limits);
  Shown show_store_now(Side side, Deadline deadline);
  void miss(Side side, ByteView record);
  bool reserve_well();
  // The time of the first attempt: with a second one in reserve, half of what there is.
  Deadline first_share(Deadline whole);

  // `call(vault)`, on the other side too where that may help.
  template <class T, class Call>
  Result<T> once(Again again, Call call);
  // The same for many keys: `call(vault, places, until)` gives one result for each of the places.
  template <class T, class Call>
  std::vector<Result<T>> each(std::size_t count, Deadline deadline, Call call);
  // For many keys, never repeated: `call(vault)` gives one result for each.
  template <class T, class Call>
  std::vector<Result<T>> each_once(Deadline deadline, Call call);

  const Options options_;

  // What a vault is still to be shown.
  struct Unseen {
    std::map<CmkId, keyring::SealedRecord> missed;  // The newest of each key.
    bool too_many = false;                          // missed_max was not enough for all.
    bool all = true;                                // Of the store, from behind `after` on.
    std::optional<CmkId> after{};
    std::uint64_t begun = 0;  // How often it had to begin anew.
    Turn missed_turn{};       // Of two kinds, as what was missed is few beside the store.
    Turn store_turn{};
  };
  Unseen& unseen(Side side) { return unseen_.at(side == Side::kActive ? 0 : 1); }

  std::condition_variable turn_ended_;
  std::mutex mutex_;  // Guards what follows.
  std::array<Unseen, 2> unseen_;
  Side serving_ = Side::kActive;
  std::optional<SteadyTime> well_since_;  // The active one, while the standby serves.
  std::string active_root_;               // As last seen; "": never.
  std::string standby_root_;
  bool reserve_well_ = false;  // The one that does not serve, when it was last looked at.
};

}  // namespace coffer::hsm
