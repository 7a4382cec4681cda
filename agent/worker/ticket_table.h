// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "agent/worker/device_table.h"
#include "agent/worker/worker_protocol.h"
#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/keyring/key_shares.h"
#include "core/keyring/key_vault.h"

namespace coffer::agent {

// One expected key with the device that it is for.
struct KeyJob {
  keyring::Ticket ticket{};
  ExpectedKey spec;
  std::shared_ptr<const HeldDevice> device;
  Deadline deadline{SteadyTime{}};  // Of its ticket: nobody waits for its end any longer.
};

// A key kept for provisioning, and what has been made with it.
struct KeptKey {
  KeyJob job;
  std::shared_ptr<const SecretBytes> key;
  std::shared_ptr<const Bytes> header;  // Both copies, once built.
};

// TicketTable knows which keys cofferd has announced and what became of each. A key that nobody
// expects is never used, and each is taken once. Tickets belong to the connection that announced
// them and end with it; what has begun by then finishes, and its outcome is dropped.
//
// Thread-safe.
class TicketTable {
 public:
  static constexpr std::size_t kTicketsMax = 1024;

  explicit TicketTable(const Clock& clock) : clock_(clock) {}

  // kLimitsExceeded; kInvalidArgs: two keys have one index, or the ticket exists.
  Result<void> add(const keyring::Ticket& ticket, std::uint64_t connection, Deadline deadline,
                   std::vector<KeyJob> jobs);

  // The vault delivers the key at `index`: its job, from now on begun.
  //   kTicketUnknown    not expected, not any more, or already taken.
  //   kProfileMismatch  vault and agent mean different profiles: the key has ended with that.
  Result<KeyJob> take(const keyring::Ticket& ticket, std::uint32_t index,
                      const keyring::Digest& profile_digest);

  // The vault delivers a share of the key at `index`, which is not begun with it. With the last one
  // that is needed it gives the key, which take() is to begin.
  //   kTicketUnknown    as take(); or that share is there already.
  //   kProfileMismatch  as take().
  //   kBlobInvalid      of another set of shares than those before.
  //   kWrongKey         the shares do not make the key they are of: it has ended with that.
  Result<std::optional<SecretBytes>> collect(const keyring::Ticket& ticket, std::uint32_t index,
                                             const keyring::DekLabel& label, SecretBytes share);

  // Whether a begun key is still wanted: false after cancel() and the end of the connection.
  bool wanted(const keyring::Ticket& ticket, std::uint32_t index) const;

  void end(const keyring::Ticket& ticket, std::uint32_t index, Result<Activated> result);

  // For Action::kFormat: the key has come and waits. It ends the outcome with a success; a key that
  // is not wanted any more is dropped, with kCancelled or, past its deadline, kTimedOut.
  void keep(const keyring::Ticket& ticket, std::uint32_t index, SecretBytes key);
  Result<KeptKey> kept(const keyring::Ticket& ticket, std::uint32_t index,
                       std::uint64_t connection) const;  // kTicketUnknown
  void keep_header(const keyring::Ticket& ticket, std::uint32_t index, Bytes header);
  void forget_key(const keyring::Ticket& ticket, std::uint32_t index);

  // Waits until more than `seen` outcomes are there, all have ended, or `deadline`. kTicketUnknown.
  Result<WaitReply> wait(const keyring::Ticket& ticket, std::uint64_t connection, std::size_t seen,
                         Deadline deadline);

  void cancel(const keyring::Ticket& ticket, std::uint64_t connection);
  void drop_connection(std::uint64_t connection);
  // Ends what has not come in time with kTimedOut, and forgets tickets a while later.
  void expire();
  // Wakes all waiters for good: the worker stops.
  void stop();

 private:
  enum class State : std::uint8_t { kExpected, kBegun, kEnded };
  struct Entry {
    KeyJob job;  // Once it has ended and no key is kept, without its device: that may be closed.
    State state = State::kExpected;
    bool cancelled = false;
    std::shared_ptr<const SecretBytes> key;
    std::shared_ptr<const Bytes> header;
    keyring::ShareCollector shares{};  // Of a key that has not come as a whole yet.
  };
  struct TicketState {
    std::uint64_t connection = 0;
    Deadline deadline{SteadyTime{}};
    std::map<std::uint32_t, Entry> keys;
    std::vector<KeyOutcome> outcomes;
  };

  void expire_locked(TicketState& state);
  Entry* find(const keyring::Ticket& ticket, std::uint32_t index);
  // The entry of a key that may come now. Errors as take().
  Result<Entry*> expected_locked(const keyring::Ticket& ticket, std::uint32_t index,
                                 const keyring::Digest& profile_digest);
  static void forget(Entry& entry);  // What is kept for provisioning, and shares.
  void end_locked(TicketState& state, Entry& entry, Result<Activated> result);

  const Clock& clock_;
  mutable std::mutex mutex_;  // Guards what follows.
  std::condition_variable changed_;
  std::map<keyring::Ticket, TicketState> tickets_;
  bool stopping_ = false;
};

}  // namespace coffer::agent
