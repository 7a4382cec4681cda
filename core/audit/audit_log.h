// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/audit/record.h"
#include "core/base/result.h"

namespace coffer::audit {

// Which records a query wants: those that match everything that is set.
struct Filter {
  std::uint64_t from_sequence = 0;  // Inclusive; 0: from the first.
  std::uint64_t to_sequence = 0;    // Inclusive; 0: to the last.
  std::optional<WallTime> from_time;
  std::optional<WallTime> to_time;
  std::optional<VolumeId> volume;
  std::optional<CmkId> cmk;
  std::optional<Uuid> object;  // What a record is about, volume or key.
  std::string operation;  // Exact, or a family with a star behind the dot: "volume.*". Empty: all.
  std::optional<std::uint32_t> uid;
  std::optional<Kind> kind;
};

bool matches(const Filter& filter, const Record& record);

// The note that stands for `count` events which could not be kept.
Event dropped_note(std::uint64_t count);

// Some records in order. To go on, ask again with `next_sequence` as from_sequence.
struct Page {
  std::vector<Record> records;
  std::uint64_t next_sequence = 0;  // 0: there is nothing behind.
};

// The last durable record. Sequence 0 and zeros: there is none yet.
struct Head {
  std::uint64_t sequence = 0;
  crypto::Sha256Digest hash{};

  friend bool operator==(const Head&, const Head&) = default;
};

// What verifying a range found. `intact` alone says that everything holds; `problem` names the
// first thing that does not.
struct VerifyReport {
  bool intact = false;
  std::uint64_t first_sequence = 0;  // The range that was read and holds.
  std::uint64_t last_sequence = 0;
  std::uint64_t records = 0;
  std::uint64_t bad_sequence = 0;  // The record at fault or missing; 0 when intact.
  std::string problem;   // "record 17 of 00…01.audit: checksum differs"; empty when intact.
  bool stopped = false;  // Ends with a stop record: closed in order.
  Head head;             // Of the last good record.
};

// AuditLog is where every use of a key is recorded before it happens and after it ended.
//
// Thread-safe. Every call may block on the disk, so none is made on the event loop.
class AuditLog {
 public:
  virtual ~AuditLog() = default;

  // Records the events, in order and next to each other, and returns when all are durable: their
  // sequence numbers. Concurrent callers share one commit. At most kEventsMax events.
  //   kAuditUnavailable  they could not be made durable within the log's deadline (default 2 s).
  //                      What they would have announced must not be done. Where their write had
  //                      begun they may be found in the journal nevertheless, each intent with a
  //                      result, Cancelled.
  //   kInvalidArgs       none, or too many.
  virtual Result<std::vector<std::uint64_t>> append(std::span<const Event> events) = 0;
  static constexpr std::size_t kEventsMax = 8192;

  Result<std::uint64_t> append_one(const Event& event) {
    auto sequences = append(std::span(&event, 1));
    if (!sequences) return tl::unexpected(sequences.error());
    return sequences->front();
  }

  // For what has happened or happens anyway, mostly results: append() that never loses the events.
  // What cannot be made durable within the deadline is recorded once, later, as if deferred; after
  //   kAuditUnavailable
  // the caller has nothing to do but to know that it is not durable yet. This one is for logs whose
  // append() records nothing when it fails.
  virtual Result<std::vector<std::uint64_t>> append_kept(std::span<const Event> events) {
    auto sequences = append(events);
    if (sequences) return sequences;
    for (const Event& event : events) append_deferred(event);
    return sequences;
  }
  Result<std::uint64_t> append_one_kept(const Event& event) {
    auto sequences = append_kept(std::span(&event, 1));
    if (!sequences) return tl::unexpected(sequences.error());
    return sequences->front();
  }

  // For withdrawing a key (lock, suspend, wipe), which never waits for a record, and for what needs
  // none before it happens: refusals, and notes of what was done. Keeps the event and records it
  // with the next commit, or as the first thing when the journal can be written again. Does not
  // block. Beyond kDeferredMax a count stands for the rest.
  virtual void append_deferred(Event event) = 0;
  static constexpr std::size_t kDeferredMax = 4096;

  // The records that match, at most `records_max` (at most 10,000) of them, oldest first. A page
  // may hold fewer, even none, and still have a next one: a call reads a bounded part of the
  // journal.
  //   kAuditBroken  the journal cannot be read there; verify() tells more.
  virtual Result<Page> query(const Filter& filter, std::size_t records_max) = 0;

  // Reads the range from the disk and checks every checksum and link. 0 as `to`: up to the head.
  // A damaged journal is a report, not an error.
  //   kInvalidArgs  `from` is behind `to` or the head.
  virtual Result<VerifyReport> verify(std::uint64_t from, std::uint64_t to) = 0;

  virtual Head head() const = 0;

  // Asked before the first append of a program: the head that it found. Nothing while the journal
  // is not open yet; a log that can be so still answers later with the head that it had then.
  virtual std::optional<Head> head_found() const { return head(); }

  // Whether the last commit was made, for health and status.
  virtual bool available() const = 0;
};

}  // namespace coffer::audit
