// SPDX-License-Identifier: Apache-2.0
// Backups that hold keys which no token opens: the others come back, and those are named.
#include "core/audit/journal.h"
#include "hsm/cold_backup.h"
#include "tests/integration/hsm/restore_host.h"

namespace coffer::hsm {
namespace {

class RestoreLostTest : public RestoreTest {
 protected:
  // A host with a record whose seal does not hold, and one that is cut off.
  void make_damaged_host() {
    make_host("host");
    const auto off = record_of("host", "off");
    const auto sm4 = record_of("host", "sm4");
    ASSERT_TRUE(off && sm4);
    unsealed_ = CmkRecord::decode(*off)->id.str();
    cut_ = CmkRecord::decode(*sm4)->id.str();
    ASSERT_NO_FATAL_FAILURE(spoil("host", "off"));
    replace_record("host", *sm4, Bytes(sm4->begin(), sm4->begin() + 10));
  }
  void expect_named(const CommandEnd& end) const {
    EXPECT_EQ(end.status, 3) << end.output;
    EXPECT_THAT(end.output, HasSubstr(unsealed_));
    EXPECT_THAT(end.output, HasSubstr(cut_));
    EXPECT_THAT(end.output, HasSubstr("all is restored but these keys"));
  }
  // What the journal says of lost keys.
  std::vector<audit::Event> noted(const std::string& host) const {
    const audit::Journal::Options options{.node = *read_host_id(places(host).host_id())};
    const auto journal = audit::Journal::open(places(host).agent_state() + "/audit", options);
    EXPECT_THAT(journal, Succeeds());
    audit::Filter filter;
    filter.operation = "key.restore";
    const auto page = (*journal)->query(filter, 100);
    EXPECT_THAT(page, Succeeds());
    std::vector<audit::Event> events;
    for (const auto& record : page->records) events.push_back(record.event);
    return events;
  }

  std::string unsealed_;
  std::string cut_;
};

TEST_F(RestoreLostTest, KeysThatDoNotOpenAreNamedAndAllOthersComeBack) {
  ASSERT_NO_FATAL_FAILURE(make_damaged_host());
  const auto made = back_up("host");
  EXPECT_EQ(made.status, 3) << made.output;
  EXPECT_THAT(made.output, HasSubstr("keys             9\n"));
  EXPECT_THAT(made.output,
              HasSubstr("warning: the backup holds a record that does not open: " + cut_));
  lose("host");

  const auto refused = restore("host");
  EXPECT_THAT(refused.output, HasSubstr("RecordInvalid")) << refused.output;
  EXPECT_THAT(refused.output, HasSubstr("--accept-lost brings all others back"));
  EXPECT_FALSE(fs::exists(places("host").host_id()));
  EXPECT_FALSE(fs::exists(places("host").agent_state()));

  const auto done = restore("host", {"--accept-lost"});
  expect_named(done);
  EXPECT_THAT(done.output, HasSubstr("6 keys open; 1 not in use"));
  EXPECT_THAT(done.output, HasSubstr("2 keys do not open"));
  EXPECT_THAT(done.output, HasSubstr(unsealed_ + " (off): "));
  expect_complete("host");
  expect_volume_opens("host");
  EXPECT_TRUE(record_of("host", "rsa-open"));
  const auto notes = noted("host");
  ASSERT_EQ(notes.size(), 3U) << "one for each key, and one for all";
  EXPECT_TRUE(notes.back().text.find("2 keys do not open") != std::string::npos);
  const std::vector<std::string> ids{notes[0].cmk->str(), notes[1].cmk->str()};
  EXPECT_THAT(ids, testing::UnorderedElementsAre(unsealed_, cut_));
}

TEST_F(RestoreLostTest, RunThatFinishesAnotherNamesThemToo) {
  ASSERT_NO_FATAL_FAILURE(make_damaged_host());
  ASSERT_EQ(back_up("host").status, 3);
  lose("host");
  EXPECT_EQ(restore("host", {"--accept-lost", "--stop-after", "in-place"}).status, 99);
  const auto finished = restore("host");
  expect_named(finished);
  EXPECT_THAT(finished.output, HasSubstr("restored by an earlier run"));
  expect_complete("host");
}

TEST_F(RestoreLostTest, BackupWithoutLostKeysIsRestoredAsEver) {
  make_host("host");
  ASSERT_EQ(back_up("host").status, 0);
  lose("host");
  const auto done = restore("host", {"--accept-lost"});
  EXPECT_EQ(done.status, 0) << done.output;
  EXPECT_TRUE(noted("host").empty());
  EXPECT_EQ(init("other", {"--accept-lost"}).status, 2) << "of a restore alone";
}

TEST_F(RestoreLostTest, BackupNamesKeysThatNoBackupBringsBack) {
  make_host("host");
  const auto sealed = *record_of("host", "rsa");
  auto record = *CmkRecord::decode(sealed);
  record.protection = keyring::Protection::kResident;
  auto resident = record.encode();
  resident.resize(resident.size() + CmkRecord::kSealBytes);
  replace_record("host", sealed, resident);
  const auto made = back_up("host");
  EXPECT_EQ(made.status, 0) << made.output;
  EXPECT_THAT(made.output,
              HasSubstr("warning: no backup brings back " + record.id.str() + " (rsa): "));
}

TEST_F(RestoreLostTest, RecordUnderAnotherRootKeyKeepsNoOtherFromBeingCopied) {
  make_host("host");
  const auto sealed = *record_of("host", "rsa");
  auto record = *CmkRecord::decode(sealed);
  record.root_id.back() = record.root_id.back() == '0' ? '1' : '0';
  auto other = record.encode();
  other.resize(other.size() + CmkRecord::kSealBytes);
  replace_record("host", sealed, other);
  const auto made = back_up("host");
  EXPECT_EQ(made.status, 3) << made.output;
  EXPECT_THAT(made.output, HasSubstr("a record that does not open: " + record.id.str() +
                                     " (rsa): it is under the root key " + record.root_id));
  EXPECT_THAT(check_backup(backup()), Succeeds());
}

TEST_F(RestoreLostTest, StoreWithoutASoundRecordIsNoBackup) {
  ASSERT_EQ(init("host", {"--yes"}).status, 0);
  const auto sealed = *record_of("host", "default");
  replace_record("host", sealed, Bytes(3));
  const auto failed = back_up("host");
  EXPECT_THAT(failed.output, HasSubstr("no record is sound")) << failed.output;
  EXPECT_FALSE(fs::exists(backup()));
}

}  // namespace
}  // namespace coffer::hsm
