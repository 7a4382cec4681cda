// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/worker_protocol.h"

#include <gtest/gtest.h>

#include "agent/worker/one_shot.h"
#include "tests/support/result_matchers.h"

namespace coffer::agent {
namespace {

using tests::FailsWith;
using tests::Succeeds;

template <class T>
T round_trip(const T& value, T (*get)(ByteReader&)) {
  ByteWriter out;
  put(out, value);
  ByteReader in(out.view());
  auto back = get(in);
  EXPECT_THAT(in.finish(Reason::kMessageInvalid, "value"), Succeeds());
  // Whatever is cut off is noticed.
  for (std::size_t size = 0; size < out.size(); ++size) {
    ByteReader cut(ByteView(out.view()).first(size));
    static_cast<void>(get(cut));
    EXPECT_FALSE(cut.good()) << size;
  }
  return back;
}

TEST(WorkerProtocolTest, ScannedDeviceSurvivesTheWire) {
  ScannedDevice scanned;
  scanned.handle = 9;
  scanned.device = {"vdb", 254, 16, 1U << 30U, 512, true, 42};
  scanned.header_device = DeviceIdentity{"vdc", 254, 32, 1U << 22U, 4096, false, 43};
  luks2::CheckedHeader header;
  header.metadata_bytes = luks2::kMetadataBytesMin;
  header.json_free_bytes = luks2::kMetadataBytesMin - luks2::kBinaryHeaderBytes;
  header.activation = luks2::Refusal{Reason::kHeaderUnusual, "segments", "two of them"};
  header.token_refusal = luks2::Refusal{Reason::kTokenMissing, "tokens", "none of ours"};
  scanned.header = header;
  const auto back = round_trip(Result<ScannedDevice>(scanned), get_scanned);
  ASSERT_THAT(back, Succeeds());
  EXPECT_EQ(back->handle, 9U);
  EXPECT_EQ(back->device, scanned.device);
  EXPECT_EQ(back->header_device, scanned.header_device);
  EXPECT_EQ(back->header.value(), scanned.header.value());

  scanned.header = fail(Reason::kHeaderDamaged, "hdr.checksum: wrong");
  EXPECT_EQ(round_trip(Result<ScannedDevice>(scanned), get_scanned)->header.error(),
            scanned.header.error());
  const Result<ScannedDevice> absent = fail(Reason::kDeviceAbsent, "/dev/vdz is not there");
  EXPECT_EQ(round_trip(absent, get_scanned).error(), absent.error());
}

TEST(WorkerProtocolTest, ExpectedKeySurvivesTheWire) {
  ExpectedKey key;
  key.index = 3;
  key.handle = 8;
  key.action = Action::kVerify;
  key.mapping = "data-1";
  key.profile.uuid = Uuid::random().value();
  key.read_only = true;
  key.no_write_workqueue = true;
  const auto back = round_trip(key, get_expected);
  EXPECT_EQ(back.index, 3U);
  EXPECT_EQ(back.action, Action::kVerify);
  EXPECT_EQ(back.profile, key.profile);
  EXPECT_TRUE(back.read_only);
  EXPECT_FALSE(back.allow_discards);
  EXPECT_TRUE(back.no_write_workqueue);
}

TEST(WorkerProtocolTest, OutcomesSurviveTheWire) {
  WaitReply reply;
  reply.finished = true;
  reply.outcomes.push_back({1, Activated{"dm-3", "CRYPT-LUKS2-x", 253, 3, 123456, 123999}});
  reply.outcomes.push_back({2, fail(Reason::kWrongKey, "no")});
  const auto back = round_trip(reply, get_wait_reply);
  EXPECT_TRUE(back.finished);
  ASSERT_EQ(back.outcomes.size(), 2U);
  EXPECT_EQ(back.outcomes[0].result.value(), reply.outcomes[0].result.value());
  EXPECT_EQ(back.outcomes[1].result.error(), reply.outcomes[1].result.error());
}

TEST(WorkerProtocolTest, MappingAndEmptinessSurviveTheWire) {
  Mapping mapping;
  mapping.name = "data";
  mapping.dm_uuid = "CRYPT-LUKS2-0123-data";
  mapping.volume = VolumeId(Uuid::random().value());
  mapping.state = MappingState::kErrorTarget;
  mapping.deferred = true;
  const auto back = round_trip(mapping, get_mapping);
  EXPECT_EQ(back.volume, mapping.volume);
  EXPECT_EQ(back.state, MappingState::kErrorTarget);
  EXPECT_TRUE(back.deferred);
  EXPECT_FALSE(back.marked);

  const auto seen = round_trip(Emptiness{false, "swap area on vdb", "00ff"}, get_emptiness);
  EXPECT_EQ(seen.found, "swap area on vdb");
  EXPECT_EQ(seen.confirmation, "00ff");
}

TEST(WorkerProtocolTest, TextsThatAreNotPrintableAreRefused) {
  ByteWriter out;
  out.boolean(false)
      .text(
          "s\x7f"
          "ap area")
      .text("00ff");
  ByteReader in(out.view());
  static_cast<void>(get_emptiness(in));
  EXPECT_THAT(in.finish(Reason::kMessageInvalid, "emptiness"), FailsWith(Reason::kMessageInvalid));
}

TEST(WorkerProtocolTest, ListsHaveLimits) {
  const std::vector<ScanItem> items{{"/dev/vdb", ""}, {"/dev/vdc", "/dev/vdd"}};
  const auto bytes = encode_list(std::span<const ScanItem>(items));
  EXPECT_EQ(decode_list<ScanItem>(bytes, 2, get_scan_item)->size(), 2U);
  EXPECT_THAT(decode_list<ScanItem>(bytes, 1, get_scan_item), FailsWith(Reason::kMessageInvalid));
}

TEST(WorkerProtocolTest, OneShotRequestSurvivesTheWire) {
  OneShotRequest request;
  request.mode = OneShotRequest::Mode::kBuild;
  request.profile.uuid = Uuid::random().value();
  request.mapping = "data";
  request.allow_discards = true;
  request.data_path = "/dev/vdb";
  request.data_bytes = 1U << 30U;
  request.token_json = "{}";
  const auto back = OneShotRequest::decode(request.encode());
  ASSERT_THAT(back, Succeeds());
  EXPECT_EQ(back->profile, request.profile);
  EXPECT_EQ(back->data_path, "/dev/vdb");
  EXPECT_TRUE(back->allow_discards);
  auto longer = request.encode();
  longer.push_back(std::byte{0});
  EXPECT_THAT(OneShotRequest::decode(longer), FailsWith(Reason::kMessageInvalid));
}

TEST(WorkerProtocolTest, NamesOfMappingsAreChecked) {
  for (const auto* good : {"a", "data-1", "vol.2_x"}) EXPECT_TRUE(is_mapping_name(good)) << good;
  for (const auto* bad : {"", ".", "..", "control", "a/b", "a b", "ü"})
    EXPECT_FALSE(is_mapping_name(bad)) << bad;
  EXPECT_FALSE(is_mapping_name(std::string(kMappingNameBytesMax + 1, 'a')));
  const auto id = VolumeId::parse("01234567-89ab-cdef-0123-456789abcdef").value();
  EXPECT_EQ(mapping_dm_uuid(id, "data"), "CRYPT-LUKS2-0123456789abcdef0123456789abcdef-data");
}

}  // namespace
}  // namespace coffer::agent
