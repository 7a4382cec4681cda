// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <fstream>
#include <optional>

#include "agent/volume/registry.h"
#include "core/audit/record.h"
#include "core/keyring/key_store.h"
#include "hsm/vault_config.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/integration/hsm/init_host.h"
#include "tests/support/result_matchers.h"
#include "tests/support/vault_process.h"

namespace coffer::hsm {
namespace fs = std::filesystem;

using keyring::CmkRecord;
using keyring::KeyState;
using ::testing::HasSubstr;
using tests::CommandEnd;
using tests::FailsWith;
using tests::Succeeds;

inline Deadline soon() {
  return Deadline::after(std::chrono::seconds(30));
}

inline audit::Actor admin() {
  audit::Actor actor;
  actor.origin = audit::Origin::kCli;
  actor.uid = 0;
  return actor;
}

// One key of each kind that a drill uses or only looks at.
inline Result<void> make_keys(const HostSetup::Agent& agent) {
  using keyring::KeyAlgorithm;
  using keyring::KeyUsage;
  struct Kind {
    const char* alias;
    KeyAlgorithm algorithm;
    KeyUsage usage;
  };
  std::vector<CmkId> ids;
  for (const Kind& kind : {Kind{"sm4", KeyAlgorithm::kSm4, KeyUsage::kEncryptDecrypt},
                           Kind{"ec", KeyAlgorithm::kEcP256, KeyUsage::kSignVerify},
                           Kind{"sm2", KeyAlgorithm::kSm2, KeyUsage::kSignVerify},
                           Kind{"sm2-open", KeyAlgorithm::kSm2, KeyUsage::kAsymmetricDecrypt},
                           Kind{"rsa-open", KeyAlgorithm::kRsa2048, KeyUsage::kAsymmetricDecrypt},
                           Kind{"rsa", KeyAlgorithm::kRsa2048, KeyUsage::kSignVerify},
                           Kind{"off", KeyAlgorithm::kAes256, KeyUsage::kEncryptDecrypt},
                           Kind{"old", KeyAlgorithm::kAes256, KeyUsage::kEncryptDecrypt}}) {
    keyring::CmkParameters parameters;
    parameters.alias = kind.alias;
    parameters.algorithm = kind.algorithm;
    parameters.usage = kind.usage;
    const auto made = agent.keyring.create(parameters, admin());
    if (!made) return pass(made.error(), kind.alias);
    ids.push_back(made->id);
  }
  if (const auto off = agent.keyring.disable(ids[6], admin()); !off)
    return tl::unexpected(off.error());
  if (const auto old = agent.keyring.archive(ids[7], admin()); !old)
    return tl::unexpected(old.error());
  return {};
}

// RestoreTest makes hosts with keys and a volume, backs them up, loses them and brings them back.
class RestoreTest : public tests::InitHostTest {
 protected:
  static constexpr const char* kVolume = "data";

  // A host with keys and a volume; its backup in `backup()`, two of its shares in `typed()`.
  void make_host(const std::string& host,
                 const std::function<Result<void>(const HostSetup::Agent&)>& keys = make_keys) {
    const auto made = init(host, {"--yes"});
    ASSERT_EQ(made.status, 0) << made.output;
    HostSetup setup(places(host));
    ASSERT_THAT(
        setup.as_agent(places(host).agent_state(), SecretBytes(), std::chrono::seconds(90), keys),
        Succeeds());
    make_volume(host);
    for (const auto& share : {shares_of(host)[2], shares_of(host)[0]})
      std::ofstream(typed(), std::ios::app) << tests::read_text(share);
  }
  void lose(const std::string& host) const { fs::remove_all(dir_.path() / host); }

  std::string backup() const { return (dir_.path() / "backup").string(); }
  std::string typed() const { return (dir_.path() / "typed").string(); }

  CommandEnd back_up(const std::string& host, std::vector<std::string> more = {}) const {
    auto words = backup_words(host);
    words.insert(words.end(), more.begin(), more.end());
    return tests::run_command(std::move(words));
  }
  std::vector<std::string> backup_words(const std::string& host) const {
    return {(tests::bin_dir() / "coffer").string(),
            "backup",
            backup(),
            "--prefix",
            (dir_.path() / host).string(),
            "--agent-program",
            (tests::bin_dir() / "cofferd").string(),
            "--vault-user",
            tests::kVaultUser,
            "--agent-user",
            tests::kAgentUser};
  }
  CommandEnd restore(const std::string& host, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{"--restore", backup()};
    words.insert(words.end(), more.begin(), more.end());
    return init(host, words, typed());
  }

  // Puts `bytes` in the place of a key's record, as only one who edits the file can.
  void replace_record(const std::string& host, const keyring::SealedRecord& record,
                      const Bytes& bytes) const {
    const auto path = places(host).agent_state() + "/keyring.db";
    sqlite3* db = nullptr;
    ASSERT_EQ(::sqlite3_open(path.c_str(), &db), SQLITE_OK);
    sqlite3_stmt* statement = nullptr;
    ASSERT_EQ(::sqlite3_prepare_v2(db, "UPDATE cmk SET record = ?1 WHERE record = ?2", -1,
                                   &statement, nullptr),
              SQLITE_OK)
        << ::sqlite3_errmsg(db);
    ::sqlite3_bind_blob(statement, 1, bytes.data(), static_cast<int>(bytes.size()), nullptr);
    ::sqlite3_bind_blob(statement, 2, record.data(), static_cast<int>(record.size()), nullptr);
    EXPECT_EQ(::sqlite3_step(statement), SQLITE_DONE);
    EXPECT_EQ(::sqlite3_changes(db), 1);
    ::sqlite3_finalize(statement);
    ::sqlite3_close(db);
  }
  // Of a key's record the seal, which no backup can check.
  void spoil(const std::string& host, const std::string& alias) const {
    const auto record = record_of(host, alias);
    ASSERT_TRUE(record);
    auto edited = *record;
    edited.back() ^= std::byte{1};
    replace_record(host, *record, edited);
  }

  // A vault of the host's token, as its unit would run it, for as long as the object lives.
  std::unique_ptr<tests::VaultProcess> start_vault(const std::string& host) {
    worker_ = std::make_unique<tests::DeliverySocket>(dir_.path(), sink_);
    tests::VaultProcess::Options options;
    options.config = *VaultConfig::read(places(host).config());
    options.config->pin_file = places(host).credential();
    options.files = dir_.path();
    options.deliver_socket = worker_->path();
    auto started = tests::VaultProcess::start(options);
    EXPECT_THAT(started, Succeeds());
    return started ? std::move(*started) : nullptr;
  }
  std::optional<keyring::SealedRecord> record_of(const std::string& host,
                                                 const std::string& alias) const {
    const auto store = keyring::open_sqlite_key_store(places(host).agent_state() + "/keyring.db");
    EXPECT_THAT(store, Succeeds());
    if (!store) return std::nullopt;
    const auto record = (*store)->get_by_alias(alias);
    EXPECT_THAT(record, Succeeds());
    return record ? std::optional(*record) : std::nullopt;
  }

  void make_volume(const std::string& host) {
    const auto record = record_of(host, "default");
    ASSERT_TRUE(record);
    keyring::KeyContext context;
    context.volume = *VolumeId::random();
    context.cipher = "aes-xts-plain64";
    context.key_bytes = 64;
    context.generation = 1;
    const auto vault = start_vault(host);
    ASSERT_TRUE(vault);
    const auto wrapped =
        vault->client().make_deks(*record, {&context, 1}, *keyring::draw_ticket(), 0, soon());
    ASSERT_THAT(wrapped.front(), Succeeds());
    ASSERT_EQ(sink_.taken().size(), 1U);
    dek_ = sink_.taken().front().dek;

    agent::VolumeRow row;
    row.id = *context.volume;
    row.name = kVolume;
    row.mapped_name = kVolume;
    row.device = {"/dev/disk/by-id/virtio-data", "serial", "wwn"};
    row.device_bytes = std::uint64_t{1} << 30U;
    row.state = agent::RowState::kReady;
    row.profile = Bytes(20, std::byte{1});
    row.context = context.encode();
    row.wraps = {wrapped.front()->encode()};
    row.keys = {CmkRecord::decode(*record)->id};
    const auto registry = agent::Registry::open(places(host).agent_state() + "/registry.db");
    ASSERT_THAT(registry, Succeeds());
    ASSERT_THAT((*registry)->put(row), Succeeds());
    const RunAs agent{tests::kAgentUser};
    for (const auto& entry : fs::directory_iterator(places(host).agent_state()))
      ASSERT_THAT(agent.change_owner(entry.path().string()), Succeeds());
  }

  // The volume's key, by the restored registry, key record and token, is what it was.
  void expect_volume_opens(const std::string& host) {
    const auto registry = agent::Registry::open(places(host).agent_state() + "/registry.db");
    ASSERT_THAT(registry, Succeeds());
    const auto rows = (*registry)->load();
    ASSERT_THAT(rows, Succeeds());
    ASSERT_EQ(rows->rows.size(), 1U);
    const auto& row = rows->rows.front();
    EXPECT_EQ(row.name, kVolume);
    const std::vector<keyring::Presented> keys{{*keyring::WrappedKey::decode(row.wraps.front()),
                                                *keyring::KeyContext::decode(row.context)}};
    const auto record = record_of(host, "default");
    ASSERT_TRUE(record);
    const auto vault = start_vault(host);
    ASSERT_TRUE(vault);
    const std::vector<std::uint32_t> indexes{0};
    const auto delivered =
        vault->client().deliver(*record, keys, *keyring::draw_ticket(), indexes, soon());
    ASSERT_THAT(delivered.front(), Succeeds());
    EXPECT_EQ(sink_.taken().back().dek, dek_);
  }
  void expect_complete(const std::string& host) const {
    EXPECT_TRUE(fs::exists(places(host).host_id()));
    EXPECT_FALSE(fs::exists(places(host).pending_host_id()));
    EXPECT_FALSE(fs::exists(places(host).restore_mark()));
    EXPECT_FALSE(fs::exists(places(host).staging()));
    EXPECT_FALSE(fs::exists(places(host).agent_state() + ".restore"));
  }
  // Nothing of a token or of a host's state is there.
  void expect_nothing(const std::string& host) const {
    EXPECT_FALSE(fs::exists(places(host).host_id()));
    EXPECT_FALSE(fs::exists(places(host).pending_host_id()));
    EXPECT_FALSE(fs::exists(places(host).restore_mark()));
    EXPECT_FALSE(fs::exists(places(host).vault_state()));
    EXPECT_FALSE(fs::exists(places(host).agent_state()));
  }

  tests::FakeDekSink sink_;
  std::unique_ptr<tests::DeliverySocket> worker_;
  Bytes dek_;
};

}  // namespace coffer::hsm
