// SPDX-License-Identifier: Apache-2.0
#include "core/audit/segment_writer.h"

#include <algorithm>

namespace coffer::audit {

SegmentWriter::SegmentWriter(JournalFiles& files, const Options& options,
                             const Recovered& recovered)
    : files_(files),
      options_(options),
      before_(recovered.before),
      void_bytes_(recovered.void_bytes),
      attempts_for_(recovered.head.sequence + 1),
      attempts_(recovered.attempt) {}

Result<void> SegmentWriter::commit(ByteView block, const Head& head) {
  if (file_ != nullptr && offset_bytes_ + block.size() > size_bytes_) close();
  if (file_ != nullptr) {
    const auto done = file_->commit(block, offset_bytes_);
    if (done) {
      offset_bytes_ += block.size();
      return {};
    }
    // Whatever this file takes now may be lost although its sync succeeds.
    file_.reset();
    before_ = Before::kDamaged;
    void_bytes_ = block.size();
  }
  const auto begun = begin_segment(block, head);
  if (!begun) return fail(Reason::kAuditUnavailable, begun.error().str());
  return {};
}

Result<void> SegmentWriter::begin_segment(ByteView block, const Head& head) {
  const std::uint64_t first = head.sequence + 1;
  if (attempts_for_ != first) attempts_ = 0;
  attempts_for_ = first;
  // The numbers are used up only when nothing was recorded between so many failures.
  if (attempts_ == kAttemptsMax) return fail(Reason::kIoError, "too many failed segments");
  const SegmentName name{first, attempts_};

  // The header goes with the first block: a segment without a whole block was never acknowledged.
  const SegmentHeader header{options_.node,          first,   head.hash,
                             options_.clock->wall(), before_, void_bytes_};
  Bytes bytes = encode(header);
  bytes.insert(bytes.end(), block.begin(), block.end());
  const std::uint64_t size = std::max<std::uint64_t>(options_.segment_bytes, bytes.size());

  auto file = files_.create(to_string(name), size);
  // A file that could not be made left no trace; its number is free.
  if (!file) return tl::unexpected(file.error());
  ++attempts_;
  if (auto done = (*file)->commit(bytes, 0); !done) {
    before_ = Before::kDamaged;
    file->reset();
    static_cast<void>(files_.remove(to_string(name)));
    return done;
  }
  file_ = std::move(*file);
  name_ = name;
  size_bytes_ = size;
  offset_bytes_ = bytes.size();
  before_ = Before::kWhole;
  void_bytes_ = 0;
  return {};
}

void SegmentWriter::close() {
  if (file_ == nullptr) return;
  // What cannot be given back stays zero, which readers expect.
  static_cast<void>(file_->trim(offset_bytes_));
  file_.reset();
}

}  // namespace coffer::audit
