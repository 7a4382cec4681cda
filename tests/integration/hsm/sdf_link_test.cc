// SPDX-License-Identifier: Apache-2.0
// Connection, sessions and keys of an SDF device that fails, lies, goes away, or is another one.
#include "hsm/sdf_link.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/base/files.h"
#include "hsm/sdf_token_keys.h"
#include "tests/support/result_matchers.h"
#include "tests/support/sdf_faults.h"
#include "tests/support/sdf_folder.h"

namespace coffer::hsm {
namespace {

using tests::FailsWith;
using tests::sdf_library_path;
using tests::SdfFolder;
using tests::Succeeds;

SdfFolder& folder() {
  static SdfFolder folder;
  return folder;
}

const Bytes kText(48, std::byte{0x2C});
const SdfSession::Block kIv{};

// A device with the keys of a token, and a key of SM4 under which kText was encrypted.
class SdfLinkTest : public testing::Test {
 protected:
  void SetUp() override {
    folder().faults().clear();
    options_.library_path = sdf_library_path();
    options_.kek = folder().add_kek();
    options_.reconnect_pause = std::chrono::milliseconds(0);
    path_ = (folder().path() / ("keys-" + std::to_string(options_.kek))).string();
    ASSERT_THAT(make_keys(SdfMacPlace::kDevice), Succeeds());
    start();
    ASSERT_THAT(link_->run("make", [&](SdfSession& own) { return own.make_key(key_); }),
                Succeeds());
    ASSERT_THAT(encrypt(), Succeeds());
    coded_ = out_;
    ASSERT_THAT(mac(), Succeeds());
    good_mac_ = mac_;
  }
  void TearDown() override { folder().faults().clear(); }

  Result<void> make_keys(SdfMacPlace place) {
    SdfLink link(options_, [&](SdfSession& own, const SdfModule&) -> Result<void> {
      const auto made = SdfTokenKeys::make(path_, options_.kek, place, own);
      if (!made) return tl::unexpected(made.error());
      return {};
    });
    return link.while_connected([](const SdfLink::Device&) {});
  }
  void start() {
    link_ = std::make_unique<SdfLink>(options_,
                                      [this](SdfSession& own, const SdfModule&) -> Result<void> {
                                        auto keys = SdfTokenKeys::open(path_, options_.kek, own);
                                        if (!keys) return tl::unexpected(keys.error());
                                        keys_ = std::make_unique<SdfTokenKeys>(std::move(*keys));
                                        return {};
                                      });
  }
  Result<void> encrypt() {
    out_.assign(kText.size(), std::byte{0});
    return link_->run("encrypt",
                      [&](SdfSession& own) { return own.encrypt(key_, kIv, kText, out_); });
  }
  Result<void> decrypt() {
    out_.assign(kText.size(), std::byte{0});
    return link_->run("decrypt",
                      [&](SdfSession& own) { return own.decrypt(key_, kIv, coded_, out_); });
  }
  Result<void> mac() {
    return link_->run(
        "mac", [&](SdfSession& own) { return keys_->mac(&own, SdfKeyRole::kSeal, kText, mac_); });
  }
  Result<void> make_key() {
    Bytes other;
    return link_->run("make", [&](SdfSession& own) { return own.make_key(other); });
  }
  Result<void> draw(std::size_t size_bytes) {
    Bytes drawn(size_bytes);
    return link_->run("draw", [&](SdfSession& own) { return own.random(drawn); });
  }
  Result<SdfLink::Device> probe() {
    return link_->probe([](SdfSession&) { return 0UL; });
  }

  void expect_well(std::string_view after) {
    ASSERT_THAT(decrypt(), Succeeds()) << after;
    EXPECT_EQ(out_, kText) << after;
    ASSERT_THAT(mac(), Succeeds()) << after;
    EXPECT_EQ(mac_, good_mac_) << after;
    EXPECT_THAT(make_key(), Succeeds()) << after;
    EXPECT_THAT(probe(), Succeeds()) << after;
  }

  SdfLink::Options options_;
  std::string path_;
  std::unique_ptr<SdfTokenKeys> keys_;
  std::unique_ptr<SdfLink> link_;
  Bytes key_;
  Bytes coded_;
  Bytes out_;
  SdfTokenKeys::Mac mac_{};
  SdfTokenKeys::Mac good_mac_{};
};

TEST_F(SdfLinkTest, TheDeviceSaysWhichItIs) {
  const auto device = probe();
  ASSERT_THAT(device, Succeeds());
  EXPECT_EQ(device->maker, "Coffer tests");
  EXPECT_EQ(device->name, "SDF-TEST");
  EXPECT_EQ(device->serial, "2026112200100001");
}

TEST_F(SdfLinkTest, KeysThatWereMadeOpenAgainAndGiveTheSame) {
  const auto root_id = keys_->root_id();
  EXPECT_TRUE(root_id.starts_with("sdf-"));
  start();
  expect_well("restart");
  EXPECT_EQ(keys_->root_id(), root_id);
}

TEST_F(SdfLinkTest, MacsInMemoryNeedNoHmacOfTheDevice) {
  options_.library_path = sdf_library_path("sdf-2012");
  path_ += "-memory";
  ASSERT_THAT(make_keys(SdfMacPlace::kMemory), Succeeds());
  start();
  ASSERT_THAT(mac(), Succeeds());
  const auto in_memory = mac_;
  EXPECT_NE(in_memory, good_mac_);
  SdfTokenKeys::Mac again{};
  EXPECT_EQ(keys_->mac(nullptr, SdfKeyRole::kSeal, kText, again), 0UL);
  EXPECT_EQ(again, in_memory);
  EXPECT_EQ(keys_->mac(nullptr, SdfKeyRole::kWrap, kText, again), 0UL);
  EXPECT_NE(again, in_memory) << "a key for each use";
}

TEST_F(SdfLinkTest, KeysForHmacInTheDeviceDoNotOpenWithoutIt) {
  options_.library_path = sdf_library_path("sdf-2012");
  start();
  EXPECT_THAT(mac(), FailsWith(Reason::kUnsupported));
}

TEST_F(SdfLinkTest, WithoutTheirFileThereAreNoKeys) {
  std::filesystem::remove(path_);
  start();
  const auto failed = mac();
  EXPECT_THAT(failed, FailsWith(Reason::kNoSuchKey));
  EXPECT_NE(failed.error().message().find("--make-sdf-keys"), std::string::npos);
}

TEST_F(SdfLinkTest, KeysThatAreThereAreNotReplaced) {
  const auto before = *read_file(path_, 4096);
  EXPECT_THAT(make_keys(SdfMacPlace::kDevice), FailsWith(Reason::kInvalidArgs));
  EXPECT_EQ(*read_file(path_, 4096), before);
}

TEST_F(SdfLinkTest, ADamagedFileOfKeysIsNotTakenForAnotherDevice) {
  const auto good = *read_file(path_, 4096);
  for (std::size_t i = 0; i < good.size(); i += 7) {
    Bytes edited = good;
    edited[i] ^= std::byte{1};
    ASSERT_THAT(write_file_durably(path_, edited), Succeeds());
    start();
    EXPECT_THAT(mac(), FailsWith(Reason::kStoreDamaged)) << i;
  }
}

TEST_F(SdfLinkTest, AnotherKeyEncryptionKeyIsAnotherDevice) {
  const auto name = "kek-" + std::to_string(options_.kek);
  const auto right = *read_file((folder().path() / name).string(), 64);
  folder().replace_kek(options_.kek);
  start();
  EXPECT_THAT(mac(), FailsWith(Reason::kHsmAbsent));
  folder().put(name, right);
  expect_well("the right one is back");

  options_.kek = folder().add_kek();
  start();
  EXPECT_THAT(mac(), FailsWith(Reason::kConfigInvalid));
}

TEST_F(SdfLinkTest, ADeviceOfAnotherSerialNumberIsNotUsed) {
  options_.serial = "2026112200100002";
  start();
  const auto refused = probe();
  EXPECT_THAT(refused, FailsWith(Reason::kHsmAbsent));
  EXPECT_NE(refused.error().message().find("2026112200100001"), std::string::npos);
  options_.serial = "2026112200100001";
  start();
  expect_well("the right number");
}

TEST_F(SdfLinkTest, ADeviceThatWasExchangedIsNoticedByTheNextProbe) {
  folder().put("serial", as_bytes("2026112200100009"));
  EXPECT_THAT(probe(), FailsWith(Reason::kHsmAbsent));
  folder().put("serial", as_bytes("2026112200100001"));
  expect_well("the old one is back");
}

TEST_F(SdfLinkTest, ALibraryThatCannotBeUsedIsAMistakeOfTheConfiguration) {
  options_.library_path = sdf_library_path("sdf-bare");
  start();
  EXPECT_THAT(mac(), FailsWith(Reason::kConfigInvalid));
}

TEST_F(SdfLinkTest, ARemovedDeviceIsAbsentAndUsedAgainWhenItIsBack) {
  folder().faults().set("removed\n");
  EXPECT_TRUE(link_->connected());
  EXPECT_THAT(decrypt(), FailsWith(Reason::kHsmAbsent));
  EXPECT_FALSE(link_->connected());
  EXPECT_THAT(probe(), FailsWith(Reason::kHsmAbsent));
  start();
  EXPECT_THAT(mac(), FailsWith(Reason::kHsmAbsent));
  folder().faults().clear();
  expect_well("back");
}

TEST_F(SdfLinkTest, AfterAFailedAttemptRequestsFailAtOnceForAWhile) {
  options_.reconnect_pause = std::chrono::minutes(10);
  start();
  folder().faults().set("removed\n");
  EXPECT_THAT(mac(), FailsWith(Reason::kHsmAbsent));
  folder().faults().clear();
  EXPECT_THAT(mac(), FailsWith(Reason::kHsmAbsent)) << "not asked again yet";
  EXPECT_THAT(probe(), Succeeds()) << "a probe does not wait";
  EXPECT_THAT(mac(), Succeeds());
}

TEST_F(SdfLinkTest, LostSessionsCostOneRepeatAndNoError) {
  for (const auto* line : {"SDF_Decrypt@1 drop\n", "SDF_Decrypt@1 return 0x01000008\n",
                           "SDF_Decrypt@1 return 0x0100001D\n"}) {
    ASSERT_THAT(decrypt(), Succeeds());
    folder().faults().set(line);
    EXPECT_THAT(decrypt(), Succeeds()) << line;
    EXPECT_EQ(out_, kText);
  }
  for (const auto* line : {"SDF_HMACInit@1 drop\n", "SDF_HMACUpdate@1 drop\n",
                           "SDF_HMACFinal@1 return 0x01000010\n"}) {
    ASSERT_THAT(mac(), Succeeds());
    folder().faults().set(line);
    EXPECT_THAT(mac(), Succeeds()) << line;
    EXPECT_EQ(mac_, good_mac_);
  }
  // Once: what goes on is told.
  folder().faults().set("SDF_Decrypt return 0x01000008\n");
  EXPECT_THAT(decrypt(), FailsWith(Reason::kHsmFailed));
}

TEST_F(SdfLinkTest, WhatTheDeviceLacksIsToldFromWhatItHasNoneLeftOf) {
  folder().faults().set("SDF_Encrypt return 0x0100001C\n");
  EXPECT_THAT(encrypt(), FailsWith(Reason::kHsmBusy));
  folder().faults().set("SDF_Encrypt return 0x0100000A\n");
  EXPECT_THAT(encrypt(), FailsWith(Reason::kUnsupported));
  folder().faults().set("SDF_ImportKeyWithKEK return 0x01000018\n");
  start();
  EXPECT_THAT(decrypt(), FailsWith(Reason::kHsmPinIncorrect));
  folder().faults().clear();
  expect_well("lacks");
}

TEST_F(SdfLinkTest, AnAnswerThatCannotBeIsAFailureAndNothingElse) {
  for (const auto* size : {"0", "16", "64", "4096", "4294967295"}) {
    folder().faults().set(fmt::format("SDF_Encrypt size {}\n", size));
    EXPECT_THAT(encrypt(), FailsWith(Reason::kHsmFailed)) << size;
    folder().faults().set(fmt::format("SDF_Decrypt size {}\n", size));
    EXPECT_THAT(decrypt(), FailsWith(Reason::kHsmFailed)) << size;
    folder().faults().set(fmt::format("SDF_HMACFinal size {}\n", size));
    EXPECT_THAT(mac(), FailsWith(Reason::kHsmFailed)) << size;
  }
  for (const auto* size : {"0", "15", "513", "4294967295"}) {
    folder().faults().set(fmt::format("SDF_GenerateKeyWithKEK size {}\n", size));
    EXPECT_THAT(make_key(), FailsWith(Reason::kHsmFailed)) << size;
  }
  folder().faults().clear();
  expect_well("lies");
}

TEST_F(SdfLinkTest, AKeyThatDoesNotComeBackIsNotMade) {
  folder().faults().set("SDF_GenerateKeyWithKEK flip\n");
  EXPECT_THAT(make_key(), FailsWith(Reason::kHsmFailed));
}

TEST_F(SdfLinkTest, ADeviceThatEncryptsNothingMakesNoKey) {
  folder().faults().set("SDF_Encrypt zero\n");
  EXPECT_THAT(make_key(), FailsWith(Reason::kHsmFailed));
}

TEST_F(SdfLinkTest, AGeneratorThatGivesZerosIsNotOne) {
  folder().faults().set("SDF_GenerateRandom zero\n");
  EXPECT_THAT(draw(16), FailsWith(Reason::kHsmFailed));
  EXPECT_THAT(draw(9000), FailsWith(Reason::kHsmFailed));
  folder().faults().clear();
  EXPECT_THAT(draw(9000), Succeeds());
}

TEST_F(SdfLinkTest, ManyKeysPushOneAnotherOutOfASession) {
  options_.sessions_max = 1;
  start();
  std::vector<Bytes> keys(SdfSession::kKeysMax + 8);
  for (auto& key : keys) {
    ASSERT_THAT(link_->run("make", [&](SdfSession& own) { return own.make_key(key); }), Succeeds());
  }
  for (const auto& key : keys) {
    EXPECT_THAT(
        link_->run("use", [&](SdfSession& own) { return own.encrypt(key, kIv, kText, out_); }),
        Succeeds());
  }
  expect_well("many keys");
}

TEST_F(SdfLinkTest, ThreadsShareFewSessions) {
  options_.sessions_max = 2;
  start();
  std::vector<std::thread> threads;
  std::array<bool, 6> good{};
  for (auto& one : good) {
    threads.emplace_back([&] {
      one = true;
      for (int round = 0; round < 20; ++round) {
        Bytes plain(kText.size());
        const auto done = link_->run(
            "decrypt", [&](SdfSession& own) { return own.decrypt(key_, kIv, coded_, plain); });
        one = one && done && plain == kText;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const bool one : good) EXPECT_TRUE(one);
}

class SdfReturnFaultTest : public SdfLinkTest, public testing::WithParamInterface<const char*> {};

// Whatever a device answers: nothing good is called bad, nothing wrong comes out, and once it
// answers as it should, it is used again without a restart.
TEST_P(SdfReturnFaultTest, NeverMakesGoodDataBadAndHealsWithTheDevice) {
  const auto judge = [](const Result<void>& done, const std::string& line) {
    if (done) return;
    EXPECT_NE(done.error().code(), Errc::kCorrupted) << line << done.error().str();
    EXPECT_NE(done.error().code(), Errc::kInternal) << line << done.error().str();
  };
  const auto begin = [&](const std::string& line) {
    start();
    ASSERT_THAT(decrypt(), Succeeds()) << line;
  };
  const auto use = [&](const std::string& line, bool anew) {
    if (anew) start();
    const auto opened = decrypt();
    judge(opened, line);
    EXPECT_TRUE(!opened || out_ == kText) << line;
    const auto authenticated = mac();
    judge(authenticated, line);
    EXPECT_TRUE(!authenticated || mac_ == good_mac_) << line;
    judge(make_key(), line);
    static_cast<void>(probe());
  };
  tests::with_every_fault(folder(), GetParam(), begin, use,
                          [&](const std::string& line) { expect_well(line); });
}

INSTANTIATE_TEST_SUITE_P(EveryFunction, SdfReturnFaultTest, tests::every_sdf_function(),
                         tests::sdf_function_name);

}  // namespace
}  // namespace coffer::hsm
