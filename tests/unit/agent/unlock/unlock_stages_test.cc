// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "agent/unlock/announce_keys.h"
#include "agent/unlock/choose_keys.h"
#include "agent/unlock/collect_results.h"
#include "agent/unlock/decide.h"
#include "agent/unlock/deliver_keys.h"
#include "agent/unlock/find_candidates.h"
#include "agent/unlock/record_unlock.h"
#include "agent/unlock/scan_headers.h"
#include "agent/unlock/unlock_pipeline.h"
#include "tests/unit/agent/engine_fixture.h"

namespace coffer::tests {
namespace {

using agent::UnlockBatch;
using agent::UnlockTarget;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Two provisioned, closed volumes, and the stages called by hand.
class UnlockStagesTest : public EngineFixture {
 protected:
  void SetUp() override {
    EngineFixture::SetUp();
    first = provision(plug("vda"), "first");
    second = provision(plug("vdb"), "second");
    finish(engine->lock({first, second}, {}, admin()));
    run_until_idle();
  }

  UnlockBatch make_batch(const std::vector<VolumeId>& ids) {
    UnlockBatch batch;
    batch.deadline = Deadline::after(std::chrono::seconds(10));
    batch.request_id = "job-1";
    for (const VolumeId& id : ids) batch.targets.emplace_back(registry->find(id).value(), true);
    return batch;
  }
  agent::UnlockParts parts() { return {worker, *keyring, *log, system_clock(), host_id}; }
  UnlockBatch run(const std::vector<VolumeId>& ids) {
    UnlockBatch batch = make_batch(ids);
    agent::run_unlock(batch, *watch.list(), parts());
    return batch;
  }
  // What decide() says after `change` to the header on /dev/vda.
  Error refusal_after(const std::function<void(luks2::CheckedHeader&)>& change) {
    const auto before = worker.disk("/dev/vda").header;
    change(*worker.disk("/dev/vda").header);
    const int delivered = worker.delivered();
    UnlockBatch batch = run({first, second});
    worker.disk("/dev/vda").header = before;
    EXPECT_TRUE(batch.targets[1].activated) << "the other volume opens all the same";
    EXPECT_EQ(worker.delivered(), delivered + 1) << "no key for the refused one";
    EXPECT_THAT(worker.deactivate("second", second, agent::DeactivateMode::kPlain,
                                  Deadline::after(std::chrono::seconds(1))),
                Succeeds());
    return batch.targets[0].error.value_or(Error(Reason::kInternal, "was not refused"));
  }
  // The same after a change of the context in the token.
  Error refusal_of_context(const std::function<void(keyring::KeyContext&)>& change) {
    return refusal_after([&](luks2::CheckedHeader& header) {
      auto context = keyring::KeyContext::decode(header.token->context).value();
      change(context);
      header.token->context = context.encode();
    });
  }

  VolumeId first{Uuid()};
  VolumeId second{Uuid()};
};

TEST_F(UnlockStagesTest, AllStagesInARowOpenBoth) {
  const UnlockBatch batch = run({first, second});
  for (const UnlockTarget& target : batch.targets) {
    EXPECT_TRUE(target.activated);
    EXPECT_FALSE(target.error);
    ASSERT_EQ(target.uses.size(), 1U);
    EXPECT_NE(target.uses.front().intent, 0U);
  }
  EXPECT_EQ(batch.groups.size(), 1U);
}

TEST_F(UnlockStagesTest, AHeaderThatDiffersFromItsProfileIsRefusedNamingTheField) {
  using Change = std::function<void(luks2::Profile&)>;
  const std::vector<std::pair<std::string, Change>> changes = {
      {"config.json_size", [](luks2::Profile& p) { p.metadata_bytes *= 2; }},
      {"config.keyslots_size", [](luks2::Profile& p) { p.keyslots_bytes += 4096; }},
      {"segments.0.offset", [](luks2::Profile& p) { p.data_offset_bytes += 1U << 20U; }},
      {"segments.0.size", [](luks2::Profile& p) { p.data_size_bytes = 4096; }},
      {"segments.0.iv_tweak", [](luks2::Profile& p) { p.iv_tweak = 1; }},
      {"segments.0.encryption", [](luks2::Profile& p) { p.cipher = "cipher_null-ecb"; }},
      {"segments.0.sector_size", [](luks2::Profile& p) { p.sector_bytes = 512; }},
      {"keyslots.key_size", [](luks2::Profile& p) { p.key_bytes = 32; }},
      {"config.flags", [](luks2::Profile& p) { p.flags = luks2::ConfigFlags::kAllowDiscards; }}};
  for (const auto& [field, change] : changes) {
    const Change& apply = change;
    const Error error =
        refusal_after([&apply](luks2::CheckedHeader& header) { apply(*header.profile); });
    EXPECT_EQ(error.reason(), Reason::kProfileMismatch) << error.str();
    EXPECT_THAT(error.message(), AllOf(StartsWith(field), HasSubstr(": the header differs")));
  }
}

TEST_F(UnlockStagesTest, AnotherVolumesHeaderInItsPlaceIsRefused) {
  const Error error =
      refusal_after([](luks2::CheckedHeader& header) { header.uuid = Uuid::random().value(); });
  EXPECT_EQ(error.reason(), Reason::kProfileMismatch);
  EXPECT_THAT(error.message(), StartsWith("uuid"));
}

TEST_F(UnlockStagesTest, AnInPlaceJobIsLeftAlone) {
  const Error error = refusal_after([](luks2::CheckedHeader& header) {
    header.activation = luks2::Refusal{Reason::kHeaderUnusual, "requirements", "reencryption"};
  });
  EXPECT_EQ(error.reason(), Reason::kHeaderUnusual);
}

TEST_F(UnlockStagesTest, ATokenThatIsMissingOrWrongIsToldApart) {
  EXPECT_EQ(refusal_after([](luks2::CheckedHeader& header) { header.token.reset(); }).reason(),
            Reason::kTokenMissing);
  EXPECT_EQ(refusal_after([](luks2::CheckedHeader& header) {
              header.token.reset();
              header.token_refusal = luks2::Refusal{Reason::kTokenInvalid, "tokens.0", "bad"};
            }).reason(),
            Reason::kTokenInvalid);
  EXPECT_EQ(
      refusal_after([](luks2::CheckedHeader& header) { header.token->threshold = 2; }).reason(),
      Reason::kTokenInvalid);
}

TEST_F(UnlockStagesTest, AContextOfSomethingElseHasItsOwnReason) {
  EXPECT_EQ(refusal_of_context([&](keyring::KeyContext& c) { c.volume = second; }).reason(),
            Reason::kWrongVolume);
  EXPECT_EQ(refusal_of_context([](keyring::KeyContext& c) { c.host_scope = "other"; }).reason(),
            Reason::kWrongHost);
  EXPECT_EQ(refusal_of_context([](keyring::KeyContext& c) { c.tenant = "other"; }).reason(),
            Reason::kWrongTenant);
  EXPECT_EQ(refusal_of_context([](keyring::KeyContext& c) {
              c.profile_digest[0] ^= std::byte{1};
            }).reason(),
            Reason::kProfileMismatch);
}

TEST_F(UnlockStagesTest, RollbackIsRefusedUnderTheHostsState) {
  agent::VolumeRow row = registry->find(first).value();
  row.generation = 2;
  ASSERT_THAT(registry->put(row), Succeeds());
  EXPECT_EQ(refusal_after([](luks2::CheckedHeader&) {}).reason(), Reason::kHeaderRolledBack);

  row.generation = 1;
  ASSERT_THAT(registry->put(row), Succeeds());
  EXPECT_EQ(
      refusal_after([](luks2::CheckedHeader& header) { header.token->generation = 3; }).reason(),
      Reason::kWrongGeneration);
}

TEST_F(UnlockStagesTest, BothGenerationsAreGoodWhileAChangeIsOpen) {
  agent::VolumeRow row = registry->find(first).value();
  luks2::CheckedHeader header = *worker.disk("/dev/vda").header;
  row.pending_generation = 2;
  EXPECT_THAT(agent::choose_keys(row, header, *keyring), Succeeds());
  header.token->generation = 2;
  auto context = keyring::KeyContext::decode(header.token->context).value();
  context.generation = 2;
  header.token->context = context.encode();
  EXPECT_THAT(agent::choose_keys(row, header, *keyring), Succeeds());
}

TEST_F(UnlockStagesTest, ABlobMovedFromAnotherVolumeDoesNotUnwrap) {
  const Bytes moved = worker.disk("/dev/vdb").header->token->wraps.front();
  const auto before = worker.disk("/dev/vda").header;
  worker.disk("/dev/vda").header->token->wraps = {moved};
  const UnlockBatch batch = run({first, second});
  worker.disk("/dev/vda").header = before;
  EXPECT_EQ(batch.targets[0].error->reason(), Reason::kBlobInvalid);
  EXPECT_TRUE(batch.targets[1].activated);
}

TEST_F(UnlockStagesTest, AWrongKeyIsNotARefusalOfTheKms) {
  worker.disk("/dev/vda").key_digest->front() ^= std::byte{1};
  const UnlockBatch batch = run({first, second});
  EXPECT_EQ(batch.targets[0].error->reason(), Reason::kWrongKey);
  EXPECT_TRUE(batch.targets[1].activated);
}

TEST_F(UnlockStagesTest, ACopyOnAnotherDiskDoesNotReplaceTheVolume) {
  worker.plug("/dev/vdc");
  worker.disk("/dev/vdc").header = worker.disk("/dev/vda").header;
  worker.disk("/dev/vdc").key_digest = worker.disk("/dev/vda").key_digest;
  agent::Disk copy;
  copy.node = "/dev/vdc";
  copy.serial = "serial-vdc";
  copy.file_system_type = "crypto_LUKS";
  copy.file_system_uuid = first.str();
  std::vector<agent::Disk> disks = watch.list().value();
  disks.push_back(copy);

  UnlockBatch both = make_batch({first});
  agent::run_unlock(both, disks, parts());
  EXPECT_TRUE(both.targets[0].activated);
  EXPECT_EQ(both.targets[0].device_path, "/dev/vda");
  EXPECT_THAT(both.targets[0].note, HasSubstr("/dev/vdc"));

  std::erase_if(disks, [](const agent::Disk& disk) { return disk.node == "/dev/vda"; });
  UnlockBatch alone = make_batch({first});
  agent::run_unlock(alone, disks, parts());
  EXPECT_EQ(alone.targets[0].error->reason(), Reason::kDeviceChanged);
}

TEST_F(UnlockStagesTest, CopiesThatNothingTellsApartAreAmbiguous) {
  agent::VolumeRow row = registry->find(first).value();
  row.device = {"/dev/vda", "", ""};
  UnlockBatch batch = make_batch({});
  batch.targets.emplace_back(row, true);
  worker.plug("/dev/vdc").header = worker.disk("/dev/vda").header;
  agent::Disk copy;
  copy.node = "/dev/vdc";
  copy.file_system_type = "crypto_LUKS";
  copy.file_system_uuid = first.str();
  std::vector<agent::Disk> disks = watch.list().value();
  disks.push_back(copy);
  agent::run_unlock(batch, disks, parts());
  EXPECT_EQ(batch.targets[0].error->reason(), Reason::kAmbiguousVolume);
}

TEST_F(UnlockStagesTest, ADiskThatCameToTheNodeMeanwhileIsNotOpened) {
  worker.disk("/dev/vda").identity.minor += 100;
  const int delivered = worker.delivered();
  const UnlockBatch batch = run({first, second});
  ASSERT_TRUE(batch.targets[0].error);
  EXPECT_EQ(batch.targets[0].error->reason(), Reason::kDeviceChanged);
  EXPECT_TRUE(batch.targets[1].activated);
  EXPECT_EQ(worker.delivered(), delivered + 1);
}

TEST_F(UnlockStagesTest, AnAdminsLockHoldsUnlessTheVolumeIsNamed) {
  UnlockBatch batch = make_batch({});
  batch.targets.emplace_back(registry->find(first).value(), false);
  ASSERT_TRUE(batch.targets[0].row.locked_by_admin);
  agent::run_unlock(batch, *watch.list(), parts());
  EXPECT_EQ(batch.targets[0].error->reason(), Reason::kLockedByAdmin);
}

TEST_F(UnlockStagesTest, ADamagedFirstCopyOpensAndIsReported) {
  worker.disk("/dev/vda").header->copies = luks2::Copies::kPrimaryBad;
  const UnlockBatch batch = run({first});
  EXPECT_TRUE(batch.targets[0].activated);
  EXPECT_THAT(batch.targets[0].note, HasSubstr("first header copy"));
}

TEST_F(UnlockStagesTest, OneVolumeTheWorkerRefusesDoesNotStopTheOthers) {
  worker.fail_next("expect", Reason::kBusy);
  const UnlockBatch batch = run({first, second});
  EXPECT_TRUE(batch.targets[0].activated);
  EXPECT_TRUE(batch.targets[1].activated);
  EXPECT_EQ(batch.groups.size(), 2U);
}

TEST_F(UnlockStagesTest, IntentsOfAllAreOneCommitAndEachHasOneResult) {
  const auto before = audit.count(audit::Kind::kIntent, "volume.unlock");
  const auto results = audit.count(audit::Kind::kResult, "volume.unlock");
  run({first, second});
  EXPECT_EQ(audit.count(audit::Kind::kIntent, "volume.unlock"), before + 2);
  EXPECT_EQ(audit.count(audit::Kind::kResult, "volume.unlock"), results + 2);
}

TEST_F(UnlockStagesTest, ADryRunAsksForNoKeyAndRecordsNothing) {
  UnlockBatch batch = make_batch({first});
  batch.dry_run = true;
  const int delivered = worker.delivered();
  const auto records = audit.events().size();
  agent::run_unlock(batch, *watch.list(), parts());
  EXPECT_FALSE(batch.targets[0].error);
  EXPECT_FALSE(batch.targets[0].activated);
  EXPECT_EQ(worker.delivered(), delivered);
  EXPECT_EQ(audit.events().size(), records);
}

TEST_F(UnlockStagesTest, ACancelledBatchAsksForNoKey) {
  UnlockBatch batch = make_batch({first});
  batch.cancelled = [] { return true; };
  const int delivered = worker.delivered();
  agent::run_unlock(batch, *watch.list(), parts());
  EXPECT_EQ(batch.targets[0].error->reason(), Reason::kCancelled);
  EXPECT_EQ(worker.delivered(), delivered);
}

TEST_F(UnlockStagesTest, ALateBatchAsksForNoKey) {
  UnlockBatch batch = make_batch({first});
  batch.deadline = Deadline(system_clock().steady());
  const int delivered = worker.delivered();
  agent::run_unlock(batch, *watch.list(), parts());
  EXPECT_EQ(batch.targets[0].error->reason(), Reason::kTimedOut);
  EXPECT_EQ(worker.delivered(), delivered);
}

TEST_F(UnlockStagesTest, AWorkerLostAfterTheKeyIsAskedWhatItLeft) {
  for (const Reason reason : {Reason::kWorkerLost, Reason::kTicketUnknown, Reason::kTimedOut}) {
    worker.fail_next("wait_results", reason);
    const UnlockBatch batch = run({first});
    EXPECT_TRUE(batch.targets[0].activated);
    EXPECT_THAT(batch.targets[0].note, HasSubstr("found open"));
    EXPECT_THAT(worker.deactivate("first", first, agent::DeactivateMode::kPlain,
                                  Deadline::after(std::chrono::seconds(1))),
                Succeeds());
  }
}

TEST_F(UnlockStagesTest, AnOpenMappingDoesNotProveAVerify) {
  EXPECT_TRUE(run({first}).targets[0].activated);
  worker.fail_next("wait_results", Reason::kTimedOut);
  UnlockBatch batch = make_batch({first});
  batch.action = agent::Action::kVerify;
  agent::run_unlock(batch, *watch.list(), parts());
  ASSERT_TRUE(batch.targets[0].error);
  EXPECT_EQ(batch.targets[0].error->reason(), Reason::kTimedOut);
}

TEST_F(UnlockStagesTest, ARecordTellsAVerifyFromAnOpening) {
  const auto last_text = [this] {
    audit::Filter filter;
    filter.kind = audit::Kind::kResult;
    filter.volume = first;
    return log->query(filter, 1000)->records.back().event.text;
  };
  UnlockBatch batch = make_batch({first});
  batch.action = agent::Action::kVerify;
  agent::run_unlock(batch, *watch.list(), parts());
  EXPECT_FALSE(batch.targets[0].error);
  EXPECT_EQ(last_text(), "first verified");
  EXPECT_TRUE(run({first}).targets[0].activated);
  EXPECT_EQ(last_text(), "first opened");
}

TEST_F(UnlockStagesTest, AVolumeThatOpenedIsNotFailedByALostAnswerOfTheVault) {
  for (const Reason reason : {Reason::kHsmTimeout, Reason::kHsmAbsent, Reason::kWorkerLost}) {
    vault->lose_answer(reason);
    const UnlockBatch batch = run({first, second});
    for (const UnlockTarget& target : batch.targets) {
      EXPECT_FALSE(target.error) << target.error->str();
      EXPECT_TRUE(target.activated);
      EXPECT_THAT(target.note, HasSubstr("although its delivery failed"));
      EXPECT_THAT(
          worker.deactivate(target.row.mapped_name, target.row.id, agent::DeactivateMode::kPlain,
                            Deadline::after(std::chrono::seconds(1))),
          Succeeds());
    }
  }
}

TEST_F(UnlockStagesTest, AKeyThatNeverCameFailsWithWhatLostIt) {
  vault->go_away(Reason::kHsmTimeout);
  const int cancels = worker.called("cancel");
  const UnlockBatch batch = run({first});
  vault->come_back();
  ASSERT_TRUE(batch.targets[0].error);
  EXPECT_EQ(batch.targets[0].error->reason(), Reason::kHsmTimeout);
  EXPECT_GT(worker.called("cancel"), cancels);
}

TEST_F(UnlockStagesTest, ResultsThatCannotBeRecordedAreKept) {
  UnlockBatch batch = make_batch({first});
  const auto disks = watch.list().value();
  agent::find_candidates(batch.targets, disks);
  agent::scan_headers(batch, worker);
  agent::decide(batch, parts());
  agent::record_intents(batch, *log);
  agent::announce_keys(batch, worker);
  agent::deliver_keys(batch, parts());
  audit.fail_always();
  agent::collect_results(batch, worker);
  agent::record_results(batch, *log);
  EXPECT_TRUE(batch.targets[0].activated);
  EXPECT_THAT(batch.targets[0].note, HasSubstr("waits for the journal"));
}

}  // namespace
}  // namespace coffer::tests
