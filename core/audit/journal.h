// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/audit/audit_log.h"
#include "core/audit/journal_files.h"
#include "core/base/clock.h"

namespace coffer::audit {

// Journal is the AuditLog on disk: append-only segments in a folder (docs/formats/audit.md). One
// thread owns the file; each of its commits takes all events that wait, writes them as one block
// and syncs once.
//
// Opening reads the last segment, cuts a block that a crash tore (it was never acknowledged; the
// cut is recorded), begins a new segment and records a start. A segment whose write or sync failed
// is never written again: the waiting events go to a new one, and when that fails too they are
// refused, until a later attempt succeeds.
class Journal final : public AuditLog {
 public:
  struct Options {
    HostId node;
    std::string program = "cofferd";                        // In the texts of start and stop.
    std::chrono::milliseconds deadline{2000};               // For append().
    std::uint64_t segment_bytes = std::uint64_t{4} << 20U;  // Preallocated size: 64 KiB to 64 MiB.
    std::size_t waiting_max = 16384;                        // Events that wait for a commit.
    const Clock* clock = &system_clock();
    std::optional<Uuid> boot = std::nullopt;  // For tests; else the kernel's.
  };

  // Recovers and begins to write.
  //   kAuditBroken       the folder holds something that is no journal of this node, or a damage
  //   that a
  //                      crash cannot make. Nothing was changed.
  //   kAuditUnavailable  the start could not be recorded.
  //   kBusy, kAccessDenied, kIoError  as open_journal_folder().
  static Result<std::unique_ptr<Journal>> open(const std::string& folder, const Options& options);
  static Result<std::unique_ptr<Journal>> open(std::unique_ptr<JournalFiles> files,
                                               const Options& options);
  ~Journal() override;  // stop()

  Result<std::vector<std::uint64_t>> append(std::span<const Event> events) override;
  Result<std::vector<std::uint64_t>> append_kept(std::span<const Event> events) override;
  void append_deferred(Event event) override;
  Result<Page> query(const Filter& filter, std::size_t records_max) override;
  Result<VerifyReport> verify(std::uint64_t from, std::uint64_t to) override;
  Head head() const override;
  bool available() const override;

  // Takes no more, commits what waits, records the stop, gives back the unused part of the segment.
  void stop();

 private:
  class Impl;
  explicit Journal(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace coffer::audit
