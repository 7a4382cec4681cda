// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "agent/worker/batch_reader.h"
#include "agent/worker/device_table.h"
#include "agent/worker/worker.h"
#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/ipc/client.h"

namespace coffer::agent {

// HeaderScanner opens devices, reads all their headers in one batch into a memfd, seals that and
// has the reader's process parse it. A reader that dies on a batch is given its headers one by one,
// and the one that kills it gets kReaderLost.
//
// Thread-safe: one scan runs at a time.
class HeaderScanner {
 public:
  struct Scanned {
    std::shared_ptr<const HeldDevice> held;
    luks2::Sha256 header_sha256{};
    Result<luks2::CheckedHeader> header = fail(Reason::kInternal, "not read");
  };

  // `reader` is the connection to coffer-reader and must outlive *this.
  HeaderScanner(std::unique_ptr<BatchReader> batch_reader, ipc::Client& reader, FilesAllowed files)
      : batch_reader_(std::move(batch_reader)), reader_(reader), files_(files) {}

  std::vector<Result<Scanned>> scan(std::span<const ScanItem> items, Deadline deadline);

 private:
  struct Batch;
  Result<void> read(Batch& batch, Deadline deadline);
  void parse(Batch& batch, Deadline deadline);
  Result<std::vector<luks2::CheckOutcome>> ask_reader(const Batch& batch, std::size_t first,
                                                      std::size_t count, Deadline deadline);

  std::mutex mutex_;  // Guards batch_reader_.
  std::unique_ptr<BatchReader> batch_reader_;
  ipc::Client& reader_;
  const FilesAllowed files_;
};

}  // namespace coffer::agent
