// SPDX-License-Identifier: Apache-2.0
#include "agent/journal_print.h"

#include <gmock/gmock.h>

namespace coffer::tests {
namespace {

using agent::KeyEvent;
using agent::LogEntry;
using testing::Contains;
using testing::Not;
using testing::StartsWith;

std::string id_field(const char* id) {
  return std::string("MESSAGE_ID=") + id;
}

TEST(JournalPrintTest, AnEventOfAKeyHasItsIdAndTheKey) {
  const CmkId key = *CmkId::random();
  for (const auto& [event, id] :
       {std::pair{KeyEvent::kUsedInDeletion, agent::kMessageKeyUsedInDeletion},
        {KeyEvent::kNearDeletion, agent::kMessageKeyNearDeletion},
        {KeyEvent::kTakenByForce, agent::kMessageKeyTakenByForce},
        {KeyEvent::kDue, agent::kMessageKeyDue}}) {
    LogEntry entry{4, "told", {}, "KeyPendingDeletion"};
    entry.key = key;
    entry.key_event = event;
    const auto fields = agent::journal_fields(entry);
    EXPECT_THAT(fields, Contains(id_field(id)));
    EXPECT_THAT(fields, Contains("CMK_ID=" + key.str()));
    EXPECT_THAT(fields, Contains("ERROR_CODE=KeyPendingDeletion"));
    EXPECT_THAT(fields, Contains("MESSAGE=told"));
    EXPECT_THAT(fields, Contains("PRIORITY=4"));
    EXPECT_THAT(fields, Not(Contains(StartsWith("VOLUME_ID="))));
  }
}

TEST(JournalPrintTest, EventsOfVolumesHaveTheirs) {
  LogEntry entry{5, "is open", {}, {}};
  EXPECT_THAT(agent::journal_fields(entry), Not(Contains(StartsWith("MESSAGE_ID="))));
  entry.volume = *VolumeId::random();
  EXPECT_THAT(agent::journal_fields(entry), Contains(id_field(agent::kMessageVolumeOpened)));
  entry.error_name = "HsmAbsent";
  EXPECT_THAT(agent::journal_fields(entry), Contains(id_field(agent::kMessageVolumeFailed)));
}

}  // namespace
}  // namespace coffer::tests
