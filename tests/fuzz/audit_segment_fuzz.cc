// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/audit/recovery.h"
#include "core/audit/segment.h"
#include "core/audit/verifier.h"
#include "tests/fakes/fake_journal_files.h"
#include "tests/fuzz/fuzz_check.h"

// The first byte says what the rest is: a segment's file as it is; one record; or the records of a
// block, each behind its length, which gets the header and checksums it needs to be looked at
// closely. Whatever decodes has exactly one encoding; what verifies also recovers, to the same
// head.
namespace coffer::fuzz {
namespace {

void check_record(ByteView bytes) {
  const auto record = audit::decode(bytes);
  if (!record) {
    require(record.error().reason() == Reason::kAuditBroken);
    return;
  }
  require(std::ranges::equal(audit::encode(*record), bytes));
  require(!audit::to_json(*record).empty());
}

void check_segment(ByteView file) {
  const auto header = audit::decode_header(file);
  if (header) require(std::ranges::equal(encode(*header), file.first(audit::kSegmentHeaderBytes)));
  audit::BlockReader reader(file);
  while (const auto block = reader.next()) {
    for (const ByteView record : *block) check_record(record);
  }
  const HostId node = header ? header->node : HostId(Uuid());
  static_cast<void>(reader.whole_block_behind(node));

  tests::FakeDisk disk;
  disk.put({{to_string(audit::SegmentName{1, 0}), Bytes(file.begin(), file.end())}});
  const auto files = disk.open();
  const auto report = audit::verify_files(*files);
  const auto recovered = audit::recover(*files, node);
  require(report.has_value());
  require(report->intact == report->problem.empty());
  require(recovered || recovered.error().reason() == Reason::kAuditBroken);
  if (report->intact) require(recovered && recovered->head == report->head);
}

void check_records(ByteView bytes) {
  std::vector<Bytes> records;
  ByteReader in(bytes);
  while (in.good() && in.rest_bytes() > 0) {
    const ByteView record = in.bytes(audit::kRecordBytesMax);
    if (in.good()) records.emplace_back(record.begin(), record.end());
  }
  if (records.empty()) return;
  const auto first = audit::decode(records.front());
  audit::SegmentHeader header{HostId(Uuid()), 1, {}, {}, audit::Before::kWhole, 0};
  if (first) header.node = first->node;
  Bytes file = encode(header);
  const Bytes block = audit::encode_block(records);
  file.insert(file.end(), block.begin(), block.end());
  check_segment(file);
}

}  // namespace
}  // namespace coffer::fuzz

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  if (size == 0) return 0;
  const auto rest = fuzz::input(data, size).subspan(1);
  switch (data[0]) {
    case 's':
      fuzz::check_segment(rest);
      break;
    case 'r':
      fuzz::check_record(rest);
      break;
    case 'b':
      fuzz::check_records(rest);
      break;
    default:
      break;
  }
  return 0;
}
