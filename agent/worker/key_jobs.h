// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "agent/worker/emptiness.h"
#include "agent/worker/mappings.h"
#include "agent/worker/one_shot.h"
#include "agent/worker/ticket_table.h"
#include "core/base/result.h"
#include "core/ipc/worker_pool.h"
#include "hsm/delivery_protocol.h"

namespace coffer::agent {

// KeyJobs is what happens to a key once it has come: it is checked, kept, or used by a one-shot
// process, several of them at once and the rest in a queue. Thread-safe.
class KeyJobs {
 public:
  struct Options {
    std::string program = "/proc/self/exe";  // What is started with --one-shot.
    std::size_t one_shots_max = 4;           // At once.
    std::size_t queue_max = 4096;
    std::chrono::milliseconds one_shot_timeout{60000};  // At most; its ticket may end sooner.
    FilesAllowed files = FilesAllowed::kNo;
  };

  KeyJobs(Options options, TicketTable& tickets, Mappings& mappings);

  // Takes a delivered key, or a share of one, which waits for the others. The errors of
  // TicketTable::take() and collect(), kWrongKey for its length, and kLimitsExceeded when the queue
  // is full.
  Result<void> take(hsm::Delivery delivery);

  // The two steps of provisioning; Worker says what they do.
  Result<BuiltHeader> build_header(const KeptKey& kept, const std::string& label,
                                   const std::string& token_json, Deadline deadline);
  Result<void> write_header(const KeptKey& kept, const std::string& confirmation);

  // Lets what has begun finish.
  void stop() { pool_.stop(); }

 private:
  Result<Activated> carry_out(const KeyJob& job, const SecretBytes& key);
  Result<Activated> activate(const KeyJob& job, const SecretBytes& key, Deadline deadline);
  Result<Activated> settle(const KeyJob& job, const OneShotEnd& end);
  OneShotEnd run(const KeyJob& job, OneShotRequest::Mode mode, const SecretBytes& key,
                 Deadline deadline);
  Result<void> probe(const KeyJob& job) const;

  const Options options_;
  TicketTable& tickets_;
  Mappings& mappings_;
  OneShotRunner runner_;
  ipc::WorkerPool pool_;
};

// Whether `header` may be opened as `profile`: the refusal that names the field, else nothing.
//   kHeaderUnusual, kHeaderInvalid, kProfileMismatch
Result<void> require_pinned(const luks2::CheckedHeader& header, const luks2::Profile& profile);

// Whether the device can hold a volume of that profile. kDeviceTooSmall; kInvalidArgs: a profile
// with a header device and none given, or the other way round.
Result<void> require_room(const HeldDevice& device, const luks2::Profile& profile);

// What stands under the mapping's name after a one-shot process that should have made it.
enum class Standing : std::uint8_t {
  kGone,      // Nothing of this volume.
  kOurs,      // It made it.
  kUnusable,  // It made it, without a table or over another device.
  kUnknown,   // Nobody can tell now, or its process may still make it.
  kOthers,    // It answered that it made nothing: somebody else did, over a header nobody checked.
};
Standing judge_standing(const Result<Mapping>& found, const std::string& dm_uuid,
                        const DeviceIdentity& device, const OneShotEnd& end);

}  // namespace coffer::agent
