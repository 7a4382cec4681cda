// SPDX-License-Identifier: Apache-2.0
// What keys are used for, in every state, for keys of users and of services: result, error and
// what is on record. Changes of keys: key_life_test.cc.
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/crypto/sm2.h"
#include "tests/unit/core/keyring/key_states_fixture.h"

namespace coffer::tests {
namespace {

using keyring::CmkParameters;
using keyring::CmkRecord;
using keyring::KeyAlgorithm;
using keyring::KeyOwner;
using keyring::KeyState;
using keyring::KeyUsage;
using keyring::Rewrapped;
using keyring::WrappedKey;

class KeyUseStatesTest : public KeyStatesFixture {
 protected:
  enum class Needs : std::uint8_t {
    kEnabled,  // What makes something new, and private keys.
    kOpening,  // Enabled or archived.
  };
  struct Use {
    const char* name;
    const char* audited;  // Its operation in the audit trail; "": its caller's own intent.
    Needs needs;
    KeyAlgorithm algorithm;
    KeyUsage usage;
    std::function<Result<void>(const CmkId& id)> run;
  };
  std::vector<Use> table();

  // reference: kms-api.md section 3, with the names of error_reasons.h.
  static std::optional<Reason> refusal(KeyState state, Needs needs) {
    switch (state) {
      case KeyState::kEnabled:
        return std::nullopt;
      case KeyState::kDisabled:
        return Reason::kKeyDisabled;
      case KeyState::kArchived:
        return needs == Needs::kOpening ? std::nullopt : std::optional(Reason::kKeyArchived);
      case KeyState::kPendingImport:
        return Reason::kKeyPendingImport;
      case KeyState::kPendingDelete:
        return Reason::kKeyPendingDeletion;
      case KeyState::kDestroyed:
        return Reason::kNoSuchKey;
    }
    return Reason::kInternal;
  }

  static keyring::KeyContext volume_context() {
    keyring::KeyContext context;
    context.volume = *VolumeId::parse("3f2b8c1e-5d34-4f6a-9b0e-112233445566");
    context.cipher = "aes-xts-plain64";
    context.key_bytes = 64;
    return context;
  }
  Deadline soon() const { return Deadline::after(std::chrono::seconds(30), clock_); }
  Result<WrappedKey> make_dek(const CmkId& id) {
    const keyring::DekRequest request{volume_context(), 77};
    return std::move(keyring_->make_deks(id, {&request, 1}, {}, 0, actor_, soon()).at(0));
  }
  template <class T>
  static Result<void> ended(const std::vector<Result<T>>& results) {
    if (!results.at(0)) return tl::unexpected(results[0].error());
    return {};
  }
  Result<void> rewrap(const CmkId& to, const WrappedKey& blob) {
    const auto context = one_plain()[0].context;
    const Rewrapped one{{blob, context}, context};
    return ended(keyring_->rewrap(to, {&one, 1}, actor_));
  }

  static void keep(Result<WrappedKey> made, std::optional<WrappedKey>& into) {
    ASSERT_THAT(made, Succeeds());
    into = std::move(*made);
  }
  // What the key under test did while it was enabled.
  void use_before(const CmkRecord& key) {
    if (key.usage == KeyUsage::kEncryptDecrypt) {
      keep(wrap(key.id), data_);
      keep(make_dek(key.id), dek_);
    }
    if (key.usage == KeyUsage::kAsymmetricDecrypt) {
      const auto to = crypto::Sm2PublicKey::parse(key.current().public_key);
      ciphertext_ = *to->encrypt(Bytes(24, std::byte{'t'}));
    }
  }
  // A key that waits for its material has wrapped nothing: another's, by its name.
  void rename_to(const CmkId& id) {
    keep(wrap(other_.id), data_);
    keep(make_dek(other_.id), dek_);
    data_->cmk = id;
    dek_->cmk = id;
  }

  void expect(const Use& use, KeyState state, KeyOwner owner);
  void expect_on_record(const Use& use, const CmkId& id, std::size_t before,
                        const std::optional<Reason>& refused);

  const CmkRecord other_ = create(KeyOwner::kUser);
  std::optional<WrappedKey> data_;
  std::optional<WrappedKey> dek_;
  Bytes ciphertext_;
};

std::vector<KeyUseStatesTest::Use> KeyUseStatesTest::table() {
  const auto symmetric = [](const char* name, const char* audited, Needs needs, auto run) {
    return Use{name, audited, needs, KeyAlgorithm::kAes256, KeyUsage::kEncryptDecrypt, run};
  };
  return {
      symmetric("wrap", "key.wrap", Needs::kEnabled,
                [this](const CmkId& id) { return ended(keyring_->wrap(id, one_plain(), actor_)); }),
      symmetric("unwrap", "key.unwrap", Needs::kOpening,
                [this](const CmkId&) { return unwrap(*data_); }),
      symmetric("rewrap from it", "key.rewrap", Needs::kOpening,
                [this](const CmkId&) { return rewrap(other_.id, *data_); }),
      symmetric("rewrap to it", "key.rewrap", Needs::kEnabled,
                [this](const CmkId& id) { return rewrap(id, *wrap(other_.id)); }),
      symmetric("make a volume's key", "", Needs::kEnabled,
                [this](const CmkId& id) -> Result<void> {
                  const auto made = make_dek(id);
                  if (!made) return tl::unexpected(made.error());
                  return {};
                }),
      symmetric("deliver a volume's key", "", Needs::kOpening,
                [this](const CmkId&) {
                  const keyring::DekDelivery one{{*dek_, volume_context()}, 0, 77};
                  return ended(keyring_->deliver({&one, 1}, {}, soon()));
                }),
      Use{"sign", "key.sign", Needs::kEnabled, KeyAlgorithm::kEcP256, KeyUsage::kSignVerify,
          [this](const CmkId& id) {
            const Bytes digest(32, std::byte{7});
            return ended(keyring_->sign(id, keyring::SignScheme::kEcdsa, {&digest, 1}, actor_));
          }},
      Use{"decrypt", "key.decrypt", Needs::kEnabled, KeyAlgorithm::kSm2,
          KeyUsage::kAsymmetricDecrypt,
          [this](const CmkId& id) {
            return ended(
                keyring_->decrypt(id, keyring::DecryptScheme::kSm2, {&ciphertext_, 1}, actor_));
          }},
  };
}

// An intent and a result whose outcome is what the caller was told.
void KeyUseStatesTest::expect_on_record(const Use& use, const CmkId& id, std::size_t before,
                                        const std::optional<Reason>& refused) {
  const auto events = log_.events();
  std::size_t intents = 0;
  for (std::size_t i = before; i < events.size(); ++i) {
    if (events[i].operation != use.audited || events[i].kind != audit::Kind::kIntent) continue;
    ++intents;
    const bool names_it = events[i].cmk == id || events[i].text.find(id.str()) != std::string::npos;
    EXPECT_TRUE(names_it) << events[i].text;
  }
  EXPECT_EQ(intents, 1U);
  const auto& last = events.back();
  EXPECT_EQ(last.kind, audit::Kind::kResult);
  EXPECT_EQ(last.operation, use.audited);
  EXPECT_EQ(last.outcome,
            refused ? std::string(reason_info(*refused).name) : std::string(audit::kOutcomeOk));
}

void KeyUseStatesTest::expect(const Use& use, KeyState state, KeyOwner owner) {
  CmkParameters parameters;
  parameters.algorithm = use.algorithm;
  parameters.usage = use.usage;
  const auto key =
      create_in(state, owner, parameters, [this](const CmkRecord& made) { use_before(made); });
  if (!key) return;
  SCOPED_TRACE(std::string(use.name) + ", " + std::string(key_state_name(state)) + ", key of a " +
               std::string(key_owner_name(owner)));
  if (state == KeyState::kPendingImport) rename_to(key->id);
  const auto refused = refusal(state, use.needs);
  const auto before = log_.events().size();
  const auto done = use.run(key->id);
  if (refused) {
    EXPECT_THAT(done, FailsWith(*refused));
  } else {
    EXPECT_THAT(done, Succeeds());
  }
  if (*use.audited != 0) expect_on_record(use, key->id, before, refused);
  EXPECT_EQ(CmkRecord::decode(store_.row(key->id).record)->state, state);
}

TEST_F(KeyUseStatesTest, EveryUseInEveryStateEndsAsTheTableSays) {
  for (const auto& use : table()) {
    for (const auto state : kStates) {
      for (const auto owner : {KeyOwner::kUser, KeyOwner::kService}) expect(use, state, owner);
    }
  }
}

// Looking needs no state, and leaves no record.
TEST_F(KeyUseStatesTest, AKeyIsLookedAtInEveryStateUntilItIsDestroyed) {
  for (const auto state : kStates) {
    for (const auto owner : {KeyOwner::kUser, KeyOwner::kService}) {
      const auto key = create_in(state, owner);
      if (!key) continue;
      SCOPED_TRACE(key_state_name(state));
      const auto before = log_.events().size();
      const auto found = keyring_->get(key->id);
      const auto listed = keyring_->list({.filter = {.owner = owner, .search = key->id.str()}});
      ASSERT_THAT(listed, Succeeds());
      EXPECT_TRUE(listed->damaged.empty());
      if (state == KeyState::kDestroyed) {
        EXPECT_THAT(found, FailsWith(Reason::kNoSuchKey));
        EXPECT_THAT(keyring_->find(key->alias), FailsWith(Reason::kNoSuchKey));
        EXPECT_THAT(keyring_->tags(key->id), FailsWith(Reason::kNoSuchKey));
        EXPECT_THAT(keyring_->bindings(key->id, "", 10), FailsWith(Reason::kNoSuchKey));
        EXPECT_THAT(keyring_->sealed_record(key->id), FailsWith(Reason::kNoSuchKey));
        EXPECT_TRUE(listed->keys.empty());
      } else {
        ASSERT_THAT(found, Succeeds());
        EXPECT_EQ(found->state, state);
        EXPECT_EQ(found->owner, owner);
        EXPECT_EQ(found->rotation_days, 0U) << "it rotates by itself only if that is asked for";
        EXPECT_EQ(keyring_->find(key->alias)->id, key->id);
        EXPECT_THAT(keyring_->tags(key->id), Succeeds());
        EXPECT_THAT(keyring_->bindings(key->id, "", 10), Succeeds());
        EXPECT_THAT(keyring_->sealed_record(key->id), Succeeds());
        ASSERT_EQ(listed->keys.size(), 1U);
        EXPECT_EQ(listed->keys[0].state, state);
      }
      EXPECT_EQ(log_.events().size(), before);
    }
  }
}

}  // namespace
}  // namespace coffer::tests
