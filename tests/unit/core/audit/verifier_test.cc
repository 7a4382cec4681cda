// SPDX-License-Identifier: Apache-2.0
#include "core/audit/verifier.h"

#include "tests/unit/core/audit/journal_fixture.h"

namespace coffer::tests {
namespace {

// A small journal of three segments that was closed in order.
class VerifierTest : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 3; ++i) {
      auto journal = must_open(disk);
      ASSERT_THAT(journal->append_one(intent()), Succeeds());
    }
    good = disk.files();
    ASSERT_EQ(good.size(), 3U);
    for (const auto& [name, content] : good) names.push_back(name);
  }

  audit::VerifyReport verify(FakeDisk::Files files, std::uint64_t from = 0, std::uint64_t to = 0) {
    disk.put(std::move(files));
    auto report = audit::verify_files(*disk.open(), from, to);
    EXPECT_THAT(report, Succeeds());
    return report.value_or(audit::VerifyReport{});
  }
  bool refused(FakeDisk::Files files) {
    const auto report = verify(std::move(files));
    return !report.intact && !report.problem.empty();
  }

  FakeDisk disk;
  FakeDisk::Files good;
  std::vector<std::string> names;
};

TEST_F(VerifierTest, GoodJournalIsIntact) {
  const auto report = verify(good);
  EXPECT_TRUE(report.intact);
  EXPECT_TRUE(report.stopped);
  EXPECT_EQ(report.first_sequence, 1U);
  EXPECT_EQ(report.last_sequence, 9U);
  EXPECT_EQ(report.records, 9U);
  EXPECT_EQ(report.bad_sequence, 0U);
}

TEST_F(VerifierTest, EveryFlippedByteIsFound) {
  for (const auto& [name, content] : good) {
    for (std::size_t at = 0; at < content.size(); ++at) {
      FakeDisk::Files files = good;
      files[name][at] ^= std::byte{0x20};
      EXPECT_TRUE(refused(std::move(files))) << name << " byte " << at;
    }
  }
}

TEST_F(VerifierTest, EveryFlippedByteOfPreallocatedSpaceIsFound) {
  FakeDisk::Files files = good;
  Bytes& last = files[names.back()];
  last.resize(last.size() + 300);
  EXPECT_TRUE(verify(files).intact);
  for (std::size_t at = last.size() - 300; at < last.size(); ++at) {
    last[at] = std::byte{1};
    EXPECT_TRUE(refused(files)) << at;
    last[at] = std::byte{0};
  }
}

TEST_F(VerifierTest, EveryCutButAtABlockIsFound) {
  const Bytes& content = good[names.back()];
  for (std::size_t size = 0; size < content.size(); ++size) {
    FakeDisk::Files files = good;
    files[names.back()].resize(size);
    const auto report = verify(std::move(files));
    if (!report.intact) continue;
    // Whole blocks missing at the end: only the missing stop tells without a checkpoint.
    EXPECT_FALSE(report.stopped);
    EXPECT_THAT(report.last_sequence, testing::AnyOf(7U, 8U));
  }
}

TEST_F(VerifierTest, MissingSegmentIsNamed) {
  FakeDisk::Files files = good;
  files.erase(names[1]);
  const auto report = verify(files);
  EXPECT_FALSE(report.intact);
  EXPECT_EQ(report.bad_sequence, 4U);
  EXPECT_EQ(report.last_sequence, 3U);
  EXPECT_THAT(report.problem, testing::HasSubstr("records 4 to 6 are missing"));
  files = good;
  files.erase(names[0]);
  EXPECT_THAT(verify(files).problem, testing::HasSubstr("records 1 to 3 are missing"));
}

TEST_F(VerifierTest, SwappedRenamedAndDuplicatedSegmentsAreFound) {
  FakeDisk::Files files = good;
  std::swap(files[names[0]], files[names[1]]);
  EXPECT_TRUE(refused(files));
  files = good;
  files[to_string(audit::SegmentName{10, 0})] = good[names[2]];
  EXPECT_TRUE(refused(files));
  files = good;
  files["00000000000000000004-001.audit"] = good[names[1]];
  EXPECT_TRUE(refused(files));
  files = good;
  files["segment.audit"] = {};
  EXPECT_TRUE(refused(files));
}

TEST_F(VerifierTest, SwappedRemovedAndDuplicatedBlocksAreFound) {
  const Bytes& content = good[names[1]];
  std::vector<ByteView> blocks;
  std::size_t from = audit::kSegmentHeaderBytes;
  audit::BlockReader reader(content);
  while (reader.next()) {
    blocks.push_back(ByteView(content).subspan(from, reader.offset_bytes() - from));
    from = reader.offset_bytes();
  }
  ASSERT_EQ(blocks.size(), 3U);
  const auto with = [&](std::initializer_list<std::size_t> order) {
    Bytes file(content.begin(), content.begin() + audit::kSegmentHeaderBytes);
    for (const std::size_t i : order) file.insert(file.end(), blocks[i].begin(), blocks[i].end());
    FakeDisk::Files files = good;
    files[names[1]] = file;
    return files;
  };
  EXPECT_TRUE(verify(with({0, 1, 2})).intact);
  EXPECT_TRUE(refused(with({1, 0, 2})));
  EXPECT_TRUE(refused(with({0, 2})));
  EXPECT_TRUE(refused(with({1, 2})));
  EXPECT_TRUE(refused(with({0, 1})));
  EXPECT_TRUE(refused(with({0, 1, 1, 2})));
  EXPECT_TRUE(refused(with({0, 1, 2, 2})));
  EXPECT_TRUE(refused(with({})));
}

TEST_F(VerifierTest, RewrittenRecordWithRightChecksumBreaksTheChain) {
  audit::BlockReader reader(good[names[0]]);
  reader.next();
  const std::size_t at = reader.offset_bytes();
  const auto block = reader.next();
  ASSERT_TRUE(block);
  auto record = *audit::decode(block->front());
  record.event.actor.uid = 1001;
  const std::vector<Bytes> changed{encode(record)};
  const Bytes forged = audit::encode_block(changed);
  FakeDisk::Files files = good;
  std::copy(forged.begin(), forged.end(),
            files[names[0]].begin() + static_cast<std::ptrdiff_t>(at));
  const auto report = verify(files);
  EXPECT_FALSE(report.intact);
  EXPECT_EQ(report.bad_sequence, 3U);
  EXPECT_THAT(report.problem, testing::HasSubstr("the chain is broken"));
}

TEST_F(VerifierTest, RangesAreReadAloneAndMustBeThere) {
  const auto middle = verify(good, 4, 5);
  EXPECT_TRUE(middle.intact) << middle.problem;
  EXPECT_EQ(middle.records, 2U);
  EXPECT_FALSE(verify(good, 4, 12).intact);
  disk.put(good);
  EXPECT_THAT(audit::verify_files(*disk.open(), 5, 4), FailsWith(Reason::kInvalidArgs));
}

TEST_F(VerifierTest, EmptyFolderHasNothingToObjectTo) {
  const auto report = verify({});
  EXPECT_TRUE(report.intact);
  EXPECT_EQ(report.records, 0U);
  EXPECT_FALSE(report.stopped);
}

}  // namespace
}  // namespace coffer::tests
