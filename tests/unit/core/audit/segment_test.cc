// SPDX-License-Identifier: Apache-2.0
#include "core/audit/segment.h"

#include "tests/unit/core/audit/journal_fixture.h"

namespace coffer::tests {
namespace {

using audit::BlockReader;

TEST(Crc32cTest, GivesThePublishedValues) {
  // RFC 3720 appendix B.4, and the usual check value.
  EXPECT_EQ(audit::crc32c(Bytes(32)), 0x8A9136AAU);
  EXPECT_EQ(audit::crc32c(Bytes(32, std::byte{0xFF})), 0x62A8AB43U);
  EXPECT_EQ(audit::crc32c(as_bytes("123456789")), 0xE3069283U);
  EXPECT_EQ(audit::crc32c(as_bytes("6789"), audit::crc32c(as_bytes("12345"))), 0xE3069283U);
}

TEST(SegmentNameTest, HasOneSpelling) {
  const audit::SegmentName name{42, 7};
  EXPECT_EQ(to_string(name), "00000000000000000042-007.audit");
  EXPECT_EQ(audit::parse_segment_name("00000000000000000042-007.audit"), name);
  for (const char* wrong : {"", "42-7.audit", "00000000000000000000-000.audit",
                            "0000000000000000004x-000.audit", "00000000000000000042_007.audit",
                            "00000000000000000042-007.audiu", "99999999999999999999-000.audit"}) {
    EXPECT_EQ(audit::parse_segment_name(wrong), std::nullopt) << wrong;
  }
}

TEST(SegmentHeaderTest, EveryFlippedBitIsFound) {
  audit::SegmentHeader header{kNode, 17, {}, wall_from_usec(5), audit::Before::kCut, 9};
  header.previous.fill(std::byte{1});
  const Bytes encoded = encode(header);
  ASSERT_EQ(encoded.size(), audit::kSegmentHeaderBytes);
  const auto decoded = audit::decode_header(encoded);
  ASSERT_THAT(decoded, Succeeds());
  EXPECT_EQ(*decoded, header);
  for (std::size_t bit = 0; bit < encoded.size() * 8; ++bit) {
    Bytes changed = encoded;
    changed[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    EXPECT_THAT(audit::decode_header(changed), FailsWith(Reason::kAuditBroken));
  }
  EXPECT_THAT(audit::decode_header(ByteView(encoded).first(119)), FailsWith(Reason::kAuditBroken));
}

class BlockReaderTest : public testing::Test {
 protected:
  static Bytes file_of(std::initializer_list<Bytes> blocks, std::size_t zeros) {
    Bytes file = encode(audit::SegmentHeader{kNode, 1, {}, {}, audit::Before::kWhole, 0});
    for (const Bytes& block : blocks) file.insert(file.end(), block.begin(), block.end());
    file.resize(file.size() + zeros);
    return file;
  }
  static Bytes record(std::uint64_t sequence) {
    return encode(audit::Record{kNode, sequence, {}, {}, kBoot, intent(), {}, {}});
  }
};

TEST_F(BlockReaderTest, ReadsBlocksUpToTheZeros) {
  const std::vector<Bytes> two{record(1), record(2)};
  const std::vector<Bytes> one{record(3)};
  const Bytes file = file_of({audit::encode_block(two), audit::encode_block(one)}, 100);
  BlockReader reader(file);
  EXPECT_EQ(reader.next()->size(), 2U);
  EXPECT_EQ(reader.next()->size(), 1U);
  EXPECT_EQ(reader.next(), std::nullopt);
  EXPECT_EQ(reader.offset_bytes(), file.size() - 100);
  EXPECT_TRUE(reader.only_zeros_left());
}

TEST_F(BlockReaderTest, TellsATornEndFromDamageInTheMiddle) {
  const std::vector<Bytes> first{record(1)};
  const std::vector<Bytes> second{record(2)};
  Bytes file = file_of({audit::encode_block(first), audit::encode_block(second)}, 64);
  const std::size_t second_at = audit::kSegmentHeaderBytes + audit::encode_block(first).size();
  {
    Bytes torn = file;
    torn[second_at + 40] ^= std::byte{1};
    BlockReader reader(torn);
    EXPECT_TRUE(reader.next().has_value());
    EXPECT_EQ(reader.next(), std::nullopt);
    EXPECT_FALSE(reader.only_zeros_left());
    EXPECT_FALSE(reader.whole_block_behind(kNode));
  }
  file[audit::kSegmentHeaderBytes + 40] ^= std::byte{1};
  BlockReader reader(file);
  EXPECT_EQ(reader.next(), std::nullopt);
  EXPECT_TRUE(reader.whole_block_behind(kNode));
}

}  // namespace
}  // namespace coffer::tests
