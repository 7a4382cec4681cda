// SPDX-License-Identifier: Apache-2.0
// The material of a volume's key was to expire, and binding the volume was cut off before that
// was taken away.
#include <gmock/gmock.h>

#include "agent/volume/bindings.h"
#include "core/crypto/rsa.h"
#include "tests/fakes/fake_clock.h"
#include "tests/unit/agent/engine_fixture.h"

namespace coffer::tests {
namespace {

using agent::resource_of;
using agent::VolumeState;
using keyring::CmkChange;
using std::chrono::hours;
using ::testing::ElementsAre;

constexpr auto kDay = hours(24);

class EngineMaterialTest : public EngineFixture {
 protected:
  EngineMaterialTest() { clock = &fake_clock; }

  // A volume of a key whose material expires in a day, as a kill leaves it between the two steps of
  // binding: it is bound, and the time stands.
  VolumeId provision_cut_off() {
    import_key();
    agent::ProvisionOptions options;
    options.keys = {"brought"};
    const VolumeId id = provision(plug("vda"), "data", options);
    EXPECT_THAT(keyring->unbind(key, resource_of(id), {}), Succeeds());
    CmkChange expire = CmkChange::kSetValidTo;
    expire.time = fake_clock.wall() + kDay;
    EXPECT_THAT(keyring->change_many({&key, 1}, expire, {}).at(0), Succeeds());
    keep_time();
    EXPECT_THAT(keyring->bind(key, resource_of(id), {}), FailsWith(Reason::kAuditUnavailable));
    audit.succeed_again();
    EXPECT_THAT(keyring->bindings(key, "", 10).value(), ElementsAre(resource_of(id)));
    EXPECT_TRUE(expires());
    return id;
  }
  // Nobody can take the time away, until audit.succeed_again().
  void keep_time() {
    audit.fail_when(
        [](const audit::Event& event) { return event.operation == "key.set-valid-to"; });
  }
  bool expires() { return keyring->get(key).value().material_valid_to.has_value(); }
  // Without the volumes that were open.
  void boot() {
    for (const auto& [name, mapping] : worker.mappings()) {
      EXPECT_THAT(worker.deactivate(name, *mapping.volume, agent::DeactivateMode::kPlain,
                                    Deadline::after(std::chrono::seconds(1))),
                  Succeeds());
    }
    boot_id = "boot-2";
    start();
  }
  bool run_until_refused(const VolumeId& id) {
    return run_until([&] {
      const auto error = volume(id).last_error;
      return error && error->reason() == Reason::kKeyPendingImport;
    });
  }

  FakeClock fake_clock;
  CmkId key{Uuid()};

 private:
  void import_key() {
    keyring::CmkParameters parameters;
    parameters.alias = "brought";
    parameters.origin = keyring::KeyOrigin::kImported;
    const auto made = keyring->create(parameters, {});
    ASSERT_THAT(made, Succeeds());
    key = made->id;
    const auto offer = keyring->prepare_import(key, keyring::ImportWrapping::kRsaOaepSha256, {});
    ASSERT_THAT(offer, Succeeds());
    const auto to = crypto::RsaPublicKey::parse(offer->public_key);
    const auto wrapped = to->encrypt(crypto::kOaepSha256, SecretBytes::random(32)->reveal());
    ASSERT_THAT(keyring->import_material(key, {offer->token, *wrapped, {}}, {}), Succeeds());
    run_until([&] { return engine->key("brought").has_value(); });
  }
};

TEST_F(EngineMaterialTest, ABindingThatWasCutOffIsFinishedAtTheNextStart) {
  const VolumeId id = provision_cut_off();
  stop();
  start();
  EXPECT_TRUE(run_until([&] { return !expires(); })) << "long before its time";
  EXPECT_THAT(keyring->bindings(key, "", 10).value(), ElementsAre(resource_of(id)));
}

// The time came while the host was off, and the volume asks for its key before anything is settled.
TEST_F(EngineMaterialTest, AVolumeThatWasRefusedForTheTimeOpensWhenItIsTakenAway) {
  const VolumeId id = provision_cut_off();
  stop();
  fake_clock.advance(kDay);
  keep_time();
  boot();
  ASSERT_TRUE(run_until_refused(id));
  EXPECT_TRUE(expires());
  audit.succeed_again();
  EXPECT_TRUE(run_until([&] { return state(id) == VolumeState::kUnlocked; }));
  EXPECT_FALSE(expires());
}

// An archived key is bound to nothing more: only what is due takes the time away.
TEST_F(EngineMaterialTest, AVolumeOfAnArchivedKeyOpensWhenTheTimeIsTakenAwayAsItIsDue) {
  const VolumeId id = provision_cut_off();
  ASSERT_THAT(change_key(key, CmkChange::kArchive, true), Succeeds());
  stop();
  fake_clock.advance(kDay);
  keep_time();
  boot();
  ASSERT_TRUE(run_until_refused(id));
  audit.succeed_again();
  EXPECT_TRUE(run_until([&] {
    fake_clock.advance(std::chrono::seconds(10));  // To the next look at what is due.
    return !expires();
  }));
  EXPECT_TRUE(run_until([&] { return state(id) == VolumeState::kUnlocked; }));
}

// The refusal is on its way when the time is taken away.
TEST_F(EngineMaterialTest, AVolumeThatIsBeingRefusedThenIsTriedAgain) {
  const VolumeId id = provision_cut_off();
  run_until([&] { return engine->key("brought")->record.material_valid_to.has_value(); });
  finish(engine->lock({id}, {}, admin()));
  vault->fail_delivery(Reason::kKeyPendingImport, [&] {
    EXPECT_THAT(keyring->change_many({&key, 1}, CmkChange::kSetValidTo, {}).at(0), Succeeds());
  });
  EXPECT_EQ(error_of(engine->unlock({id}, {}, admin()))->reason(), Reason::kKeyPendingImport);
  EXPECT_TRUE(run_until([&] { return state(id) == VolumeState::kUnlocked; }));
}

}  // namespace
}  // namespace coffer::tests
