// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/id.h"
#include "core/base/result.h"
#include "core/crypto/digest.h"

namespace coffer::audit {

// What a record tells.
enum class Kind : std::uint8_t {
  kIntent = 1,   // Something is about to be done; durable before it is.
  kResult = 2,   // How it ended; names its intent.
  kRefused = 3,  // A request that was not carried out: denied, malformed, over a limit.
  kNote = 4,     // Something that happened: the journal's tail cut, a token back.
  kStart = 5,    // The journal was opened.
  kStop = 6,     // It was closed in order. A start without a stop before it tells of a crash.
};

// By which way a request came in.
enum class Origin : std::uint8_t {
  kDbus = 1,
  kBoot = 2,
  kHotplug = 3,
  kCli = 4,
  kDaemon = 5,  // By itself: timers, recovery.
  kVault = 6,
};

std::string_view kind_name(Kind kind) noexcept;        // "intent"
std::string_view origin_name(Origin origin) noexcept;  // "dbus"
std::optional<Kind> kind_by_name(std::string_view name) noexcept;
std::optional<Origin> origin_by_name(std::string_view name) noexcept;

// Limits of the texts; longer ones are cut, what is not printable becomes '?'.
inline constexpr std::size_t kOperationBytesMax = 64;
inline constexpr std::size_t kNameBytesMax = 255;  // Bus name, polkit action, request id, outcome.
inline constexpr std::size_t kTextBytesMax = 512;
inline constexpr std::size_t kRecordBytesMax = 4096;

struct Actor {
  Origin origin = Origin::kDaemon;
  std::optional<std::uint32_t> uid;
  std::string bus_name;       // ":1.42"; empty when it did not come by D-Bus.
  std::string polkit_action;  // The action that was granted or denied; empty when none was asked.

  friend bool operator==(const Actor&, const Actor&) = default;
};

// Event is what a caller wants recorded. It never holds a secret.
struct Event {
  Kind kind = Kind::kNote;
  Actor actor;
  std::string operation;  // Of the vocabulary in docs/formats/audit.md: "volume.unlock".
  std::optional<VolumeId> volume;
  std::optional<CmkId> cmk;
  std::uint32_t cmk_version = 0;      // 0: none.
  std::string request_id;             // Ties together what belongs to one request or job.
  std::uint64_t intent_sequence = 0;  // Of a result: the record it answers.
  std::string outcome;  // Of a result or refusal: "OK" or the reason's name; empty otherwise.
  std::string text;     // For people.

  friend bool operator==(const Event&, const Event&) = default;
};

inline constexpr std::string_view kOutcomeOk = "OK";

// The name that stands in `outcome` for the end of an operation.
template <class T>
std::string outcome_of(const Result<T>& result) {
  return std::string(result ? kOutcomeOk : result.error().name());
}

// Record is an event in its place in the chain. `hash` is the SHA-256 of the encoded record, which
// holds `previous`, the hash of the one before: changing one changes all that follow.
struct Record {
  HostId node;
  std::uint64_t sequence = 0;  // From 1, without gaps, across boots.
  WallTime wall;
  std::chrono::microseconds since_boot{0};
  Uuid boot;  // The kernel's boot id.
  Event event;
  crypto::Sha256Digest previous{};
  crypto::Sha256Digest hash{};  // Not encoded: computed.

  friend bool operator==(const Record&, const Record&) = default;
};

// The canonical form (docs/formats/audit.md): one event has one encoding. encode() fits the texts
// to their limits and sets nothing else; hash_of() is over its result.
Bytes encode(const Record& record);
crypto::Sha256Digest hash_of(ByteView encoded);

//   kAuditBroken  not the canonical form of a record of a known version.
Result<Record> decode(ByteView encoded);

// One line of JSON: a view for people and tools, not a second format.
std::string to_json(const Record& record);

}  // namespace coffer::audit
