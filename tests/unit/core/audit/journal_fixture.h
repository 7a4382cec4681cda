// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>

#include "core/audit/journal.h"
#include "core/audit/segment.h"
#include "core/audit/verifier.h"
#include "tests/fakes/fake_journal_files.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {

inline const HostId kNode = *HostId::parse("0f0e0d0c-0b0a-4908-8706-050403020100");
inline const Uuid kBoot = *Uuid::parse("11111111-2222-4333-8444-555555555555");
inline const VolumeId kVolume = *VolumeId::parse("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee");
inline const CmkId kCmk = *CmkId::parse("cccccccc-bbbb-4ccc-8ddd-eeeeeeeeeeee");

inline audit::Event intent(std::string operation = "volume.unlock") {
  audit::Event event;
  event.kind = audit::Kind::kIntent;
  event.actor = {audit::Origin::kDbus, 1000, ":1.7", "org.coffer.agent1.unlock"};
  event.operation = std::move(operation);
  event.volume = kVolume;
  event.cmk = kCmk;
  event.cmk_version = 3;
  event.request_id = "job-1";
  return event;
}

inline audit::Journal::Options small_journal() {
  audit::Journal::Options options{.node = kNode};
  options.segment_bytes = 65536;
  options.boot = kBoot;
  return options;
}

inline std::unique_ptr<audit::Journal> must_open(
    FakeDisk& disk, const audit::Journal::Options& options = small_journal()) {
  auto journal = audit::Journal::open(disk.open(), options);
  EXPECT_THAT(journal, Succeeds());
  return journal ? std::move(*journal) : nullptr;
}

inline std::vector<audit::Record> all_records(audit::AuditLog& log) {
  std::vector<audit::Record> records;
  audit::Filter filter;
  do {
    const auto page = log.query(filter, 100);
    EXPECT_THAT(page, Succeeds());
    if (!page) break;
    records.insert(records.end(), page->records.begin(), page->records.end());
    filter.from_sequence = page->next_sequence;
  } while (filter.from_sequence != 0);
  return records;
}

}  // namespace coffer::tests
