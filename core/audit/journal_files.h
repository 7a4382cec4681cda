// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"

namespace coffer::audit {

// One segment that is being written. One thread at a time.
class SegmentFile {
 public:
  virtual ~SegmentFile() = default;
  // Writes all of `bytes` at `offset_bytes` and makes them durable. After a failure nothing more is
  // committed to this file.   kIoError
  virtual Result<void> commit(ByteView bytes, std::uint64_t offset_bytes) = 0;
  // Gives back what was preallocated behind `size_bytes`, durably.   kIoError
  virtual Result<void> trim(std::uint64_t size_bytes) = 0;
};

// JournalFiles is the folder the journal lives in, as far as the journal needs one: the seam for
// fault tests. read() and list() from any thread, the others from one.
class JournalFiles {
 public:
  virtual ~JournalFiles() = default;
  // Makes a new file with `size_bytes` of zeros that are set aside on the disk, durably in the
  // folder.
  //   kIoError  also when one of that name exists or the disk is full.
  virtual Result<std::unique_ptr<SegmentFile>> create(const std::string& name,
                                                      std::uint64_t size_bytes) = 0;
  // Cuts an existing file, durably.   kIoError
  virtual Result<void> truncate(const std::string& name, std::uint64_t size_bytes) = 0;
  // Removes a file that holds nothing.   kIoError
  virtual Result<void> remove(const std::string& name) = 0;
  // Names of the files in the folder, sorted.
  virtual Result<std::vector<std::string>> list() const = 0;
  //   kLimitsExceeded, kNoSuchFile, kIoError
  virtual Result<Bytes> read(const std::string& name, std::size_t size_max) const = 0;
};

// The maker over a real folder, which is made (mode 0700) when it is not there and locked against a
// second journal.
//   kBusy                    another process has the journal open.
//   kAccessDenied, kIoError
Result<std::unique_ptr<JournalFiles>> open_journal_folder(const std::string& folder);

// The same to read only, without the lock: for the verifier.   kNoSuchFile
Result<std::unique_ptr<JournalFiles>> read_journal_folder(const std::string& folder);

}  // namespace coffer::audit
