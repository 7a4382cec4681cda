// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "agent/worker/batch_reader.h"
#include "agent/worker/device_calls.h"
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
// Opening and reading each have a part of the time only, so that a device that does not answer gets
// kTimedOut and the others their headers. Until its call has come back, later scans leave that
// device alone and do not wait for it again.
//
// Thread-safe: one batch is read at a time, the rest side by side.
class HeaderScanner {
 public:
  // How long devices are waited for, however much time the scan has.
  struct Patience {
    std::chrono::milliseconds open{10000};  // A disk that has to spin up answers within that.
    std::chrono::milliseconds read{10000};
  };
  using Opener = std::function<Result<OpenDevice>(const std::string& path, FilesAllowed files)>;

  struct Scanned {
    std::shared_ptr<const HeldDevice> held;
    luks2::Sha256 header_sha256{};
    Result<luks2::CheckedHeader> header = fail(Reason::kInternal, "not read");
  };

  // `reader` is the connection to coffer-reader and must outlive *this.
  HeaderScanner(std::unique_ptr<BatchReader> batch_reader, ipc::Client& reader, FilesAllowed files)
      : HeaderScanner(std::move(batch_reader), reader, files, Patience(), open_device) {}
  // For tests, which have devices that do not even open.
  HeaderScanner(std::unique_ptr<BatchReader> batch_reader, ipc::Client& reader, FilesAllowed files,
                Patience patience, Opener opener)
      : batch_reader_(std::move(batch_reader)),
        reader_(reader),
        files_(files),
        patience_(patience),
        opener_(std::move(opener)) {}

  std::vector<Result<Scanned>> scan(std::span<const ScanItem> items, Deadline deadline);

 private:
  struct Batch;
  using Opened = Result<std::shared_ptr<HeldDevice>>;

  std::vector<Opened> open(std::span<const ScanItem> items, Deadline deadline);
  Result<void> read(Batch& batch, Deadline deadline);
  void parse(Batch& batch, Deadline deadline);
  Result<std::vector<luks2::CheckOutcome>> ask_reader(const Batch& batch, std::size_t first,
                                                      std::size_t count, Deadline deadline);

  std::timed_mutex mutex_;  // Guards batch_reader_.
  std::unique_ptr<BatchReader> batch_reader_;
  ipc::Client& reader_;
  const FilesAllowed files_;
  const Patience patience_;
  const Opener opener_;
  DeviceCalls calls_;
};

}  // namespace coffer::agent
