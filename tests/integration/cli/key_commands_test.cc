// SPDX-License-Identifier: Apache-2.0
// `coffer key …` as an operator and a script meet it.
#include <filesystem>
#include <fstream>

#include "core/base/encoding.h"
#include "core/base/files.h"
#include "core/keyring/import_limits.h"
#include "tests/integration/cli/agent_commands.h"
#include "tests/support/temp_dir.h"

namespace coffer::tests {
namespace {

namespace json = boost::json;

using testing::HasSubstr;
using testing::IsEmpty;

class KeyCommandsTest : public AgentCommandsTest {
 protected:
  // `coffer key WORDS` with `input` on its standard input.
  CommandResult key(const std::string& input, const std::string& words) {
    const std::string in = (folder.path() / "input").string();
    std::ofstream(in, std::ios::binary) << input;
    const std::string line = (bin_dir() / "coffer").string() + " key " + words + " --bus '" +
                             bus_.address() + "' < " + in;
    return run_command(*loop, {"/bin/sh", "-c", line});
  }
  json::object shown(const std::string& spec) {
    return coffer_json({"key", "show", spec}).as_object();
  }
  std::string file(const char* name) { return (folder.path() / name).string(); }

  TempDir folder;
};

TEST_F(KeyCommandsTest, ListShowsWhatHappensNextAndFilters) {
  ASSERT_EQ(coffer({"key", "rotation", "default", "--days", "90"}).status, 0);
  const auto all = coffer({"key", "list"});
  EXPECT_EQ(all.status, 0) << all.err;
  EXPECT_THAT(all.out, testing::StartsWith("ALIAS    STATE    VERSION  ALGORITHM  NEXT"));
  EXPECT_THAT(all.out, HasSubstr("default  Enabled  1        AES-256    rotates 2"));
  EXPECT_THAT(all.out, HasSubstr("vol-a, vol-b  wrapped, software"));
  const CmkId other = engine->add_key("other");
  engine->change_record(other, [](auto& record) { record.state = keyring::KeyState::kArchived; });
  EXPECT_EQ(coffer_json({"key", "list"}).as_array().size(), 2U);
  const auto archived = coffer_json({"key", "list", "--state", "Archived"}).as_array();
  ASSERT_EQ(archived.size(), 1U);
  EXPECT_EQ(archived[0].as_object().at("Alias").as_string(), "other");
  EXPECT_EQ(coffer_json({"key", "list", "--order", "newest"}).as_array().size(), 2U);
  EXPECT_EQ(coffer({"key", "list", "--state", "Gone"}).status, 64);
  const auto none = coffer({"key", "list", "--search", "nothing"});
  EXPECT_EQ(none.status, 0);
  EXPECT_THAT(none.out, IsEmpty());
}

TEST_F(KeyCommandsTest, ShowTellsEverythingWithTheVolumes) {
  ASSERT_EQ(coffer({"key", "tag", "default", "team=storage", "env=prod"}).status, 0);
  const auto text = coffer({"key", "show", "default"});
  EXPECT_EQ(text.status, 0) << text.err;
  for (const auto* part :
       {"AES-256, encrypt-decrypt", "wrapped by a software token", "on demand",
        "env=prod, team=storage", "VERSION  STATE", "1        current", "vol-a", "vol-b"})
    EXPECT_THAT(text.out, HasSubstr(part));
  const auto object = shown("default");
  EXPECT_EQ(object.at("Volumes").as_array().size(), 2U);
  EXPECT_EQ(object.at("Tags").as_object().at("env").as_string(), "prod");
  EXPECT_EQ(coffer({"key", "tag", "default", "--none"}).status, 0);
  EXPECT_TRUE(shown("default").at("Tags").as_object().empty());
  EXPECT_EQ(coffer({"key", "tag", "default"}).status, 2);
  EXPECT_EQ(coffer({"key", "tag", "default", "novalue"}).status, 64);
}

TEST_F(KeyCommandsTest, AKeyIsMadeAsAsked) {
  EXPECT_EQ(coffer({"key", "create", "signer", "--algorithm", "SM2", "--usage", "sign-verify",
                    "--protection", "rooted"})
                .status,
            0);
  EXPECT_EQ(shown("signer").at("Algorithm").as_string(), "SM2");
  EXPECT_EQ(coffer({"key", "create", "x", "--algorithm", "SM2"}).status, 64);
  EXPECT_EQ(coffer({"key", "create", "brought", "--imported"}).status, 0);
  EXPECT_EQ(shown("brought").at("State").as_string(), "PendingImport");
}

TEST_F(KeyCommandsTest, EachChangeDoesWhatItIsCalled) {
  ASSERT_EQ(coffer({"key", "create", "second"}).status, 0);
  const auto goes_to = [&](const std::vector<std::string>& words, const char* state) {
    std::vector<std::string> all{"key"};
    all.insert(all.end(), words.begin(), words.end());
    const auto done = coffer(all);
    EXPECT_EQ(done.status, 0) << words[0] << done.err;
    EXPECT_EQ(shown("second").at("State").as_string(), state) << words[0];
  };
  goes_to({"disable", "second"}, "Disabled");
  goes_to({"enable", "second"}, "Enabled");
  goes_to({"archive", "second"}, "Archived");
  goes_to({"unarchive", "second"}, "Enabled");
  goes_to({"delete", "second", "--days", "7"}, "PendingDelete");
  EXPECT_THAT(coffer({"key", "show", "second"}).out, HasSubstr("Destroyed     2"));
  goes_to({"undelete", "second"}, "Disabled");
  goes_to({"rotate", "second"}, "Disabled");
  EXPECT_EQ(shown("second").at("Version").to_number<int>(), 2);
  EXPECT_EQ(coffer({"key", "destroy-version", "second", "1"}).status, 2);
  const auto moved = coffer({"key", "rewrap", "default", "--per-minute", "500"});
  EXPECT_EQ(moved.status, 0) << moved.err;
  EXPECT_THAT(moved.out + moved.err, HasSubstr("vol-a"));
  EXPECT_EQ(engine->last_rewrap().per_minute, 500U);
  EXPECT_NE(coffer({"key", "rewrap", "default", "--per-minute", "0"}).status, 0);
  EXPECT_EQ(coffer({"key", "rewrap", "nobody"}).status, 66);
  goes_to({"destroy-version", "second", "1", "--yes"}, "Disabled");
  goes_to({"rotation", "second", "--days", "30"}, "Disabled");
  EXPECT_THAT(coffer({"key", "show", "second"}).out,
              HasSubstr("every 30 days, once it is enabled"));
  EXPECT_THAT(coffer({"key", "list", "--search", "second"}).out,
              testing::Not(HasSubstr("rotates")));
  goes_to({"rotation", "second", "--off"}, "Disabled");
  goes_to({"delete-material", "second"}, "PendingImport");
  EXPECT_EQ(coffer({"key", "describe", "second", "--alias", "third", "--description", ""}).status,
            0);
  EXPECT_EQ(shown("third").at("Description").as_string(), "");
  EXPECT_EQ(coffer({"key", "describe", "third"}).status, 2);
  for (const auto* days : {"6", "31", "soon"})
    EXPECT_EQ(coffer({"key", "delete", "third", "--days", days}).status, 2) << days;
  EXPECT_EQ(coffer({"key", "rotation", "third", "--days", "366"}).status, 2);
  EXPECT_EQ(coffer({"key", "rotation", "third"}).status, 2);
}

TEST_F(KeyCommandsTest, AKeyThatVolumesUseNeedsForce) {
  const auto refused = coffer({"key", "disable", "default"});
  EXPECT_EQ(refused.status, 69);
  EXPECT_THAT(refused.err, HasSubstr("KeyBound"));
  EXPECT_THAT(refused.err, HasSubstr("`coffer key show KEY` tells what uses it."));
  EXPECT_EQ(coffer({"key", "disable", "default", "--force"}).status, 0);
}

TEST_F(KeyCommandsTest, SeveralKeysEachHaveTheirLineAndTheFirstErrorCounts) {
  ASSERT_EQ(coffer({"key", "create", "second"}).status, 0);
  ASSERT_EQ(coffer({"key", "create", "third"}).status, 0);
  const auto mixed = coffer({"key", "disable", "second", "none", "third"});
  EXPECT_EQ(mixed.status, 66);
  EXPECT_THAT(mixed.out, HasSubstr("second: disabled"));
  EXPECT_THAT(mixed.out, HasSubstr("third: disabled"));
  EXPECT_THAT(mixed.err, HasSubstr("none: NoSuchKey"));
  const auto results = coffer_json({"key", "enable", "second", "none"}, 66).as_array();
  ASSERT_EQ(results.size(), 2U);
  EXPECT_TRUE(results[0].as_object().at("done").as_bool());
  EXPECT_EQ(results[1].as_object().at("error").as_string(), "NoSuchKey");
}

TEST_F(KeyCommandsTest, SeveralKeysGoInOneCallEachOnce) {
  std::vector<std::string> words{"key", "disable"};
  for (int i = 0; i < 101; ++i) {
    engine->add_key("many-" + std::to_string(i));
    words.push_back("many-" + std::to_string(i));
  }
  const auto done = coffer(words);
  EXPECT_EQ(done.status, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("many-100: disabled"));
  EXPECT_EQ(coffer_json({"key", "list", "--state", "Disabled"}).as_array().size(), 101U);
  const auto id = std::string(shown("many-0").at("Id").as_string());
  const auto twice = coffer({"key", "enable", "many-0", id});
  EXPECT_EQ(twice.status, 64);
  EXPECT_THAT(twice.err, HasSubstr("the same key"));
  EXPECT_EQ(shown("many-0").at("State").as_string(), "Disabled");
  EXPECT_EQ(coffer({"key", "delete", "many-0", "many-1", "--days", "9"}).status, 0);
  EXPECT_EQ(shown("many-1").at("State").as_string(), "PendingDelete");
}

TEST_F(KeyCommandsTest, ResourcesAreBoundShownAndUnbound) {
  ASSERT_EQ(coffer({"key", "bind", "default", "backup:nightly"}).status, 0);
  EXPECT_THAT(coffer({"key", "show", "default"}).out, HasSubstr("RESOURCE\nbackup:nightly\n"));
  EXPECT_EQ(shown("default").at("Resources").as_array().size(), 1U);
  EXPECT_EQ(coffer({"key", "bind", "default", "volume:x"}).status, 64);
  EXPECT_EQ(coffer({"key", "unbind", "default", "backup:nightly"}).status, 0);
  const auto gone = coffer({"key", "unbind", "default", "backup:nightly"});
  EXPECT_EQ(gone.status, 66);
  EXPECT_THAT(gone.err, HasSubstr("NoSuchBinding"));
  EXPECT_THAT(gone.err, HasSubstr("`coffer key show KEY`"));
  EXPECT_THAT(coffer({"key", "show", "default"}).out, testing::Not(HasSubstr("RESOURCE")));
}

TEST_F(KeyCommandsTest, ListTakesSeveralTagsAndCounts) {
  engine->add_key("second");
  engine->add_key("third");
  ASSERT_EQ(coffer({"key", "tag", "default", "env=prod"}).status, 0);
  ASSERT_EQ(coffer({"key", "tag", "second", "env=test"}).status, 0);
  EXPECT_THAT(coffer({"key", "list"}).out, HasSubstr("\n3 keys\n"));
  const auto two = coffer({"key", "list", "--tag", "env=prod", "--tag", "env=test"});
  EXPECT_THAT(two.out, HasSubstr("\n2 keys\n"));
  EXPECT_THAT(coffer({"key", "list", "--tag", "env=prod"}).out, HasSubstr("\n1 key\n"));
}

TEST_F(KeyCommandsTest, DamagedKeysAreNotPassedOver) {
  engine->set_damaged_keys(2);
  const auto some = coffer({"key", "list"});
  EXPECT_EQ(some.status, 0);
  EXPECT_THAT(some.out, HasSubstr("\n3 keys, 2 not shown: "));
  const auto document = coffer({"key", "list", "--json"});
  EXPECT_EQ(document.status, 0);
  EXPECT_EQ(json::parse(document.out).as_array().size(), 1U);
  EXPECT_THAT(document.err, HasSubstr("2 not shown"));
  engine->remove_key(engine->key("default")->record.id);
  const auto none = coffer({"key", "list"});
  EXPECT_EQ(none.status, 65);
  EXPECT_THAT(none.err, HasSubstr("2 keys, none of which can be read"));
  EXPECT_THAT(none.err, testing::Not(HasSubstr("key create")));
  EXPECT_EQ(coffer({"key", "list", "--json"}).status, 65);
}

TEST_F(KeyCommandsTest, ShowCountsTheUsesOfEachVersion) {
  engine->change_record(engine->key("default")->record.id,
                        [](auto& record) { record.versions.back().wraps_leased = 65'536; });
  const auto text = coffer({"key", "show", "default"});
  EXPECT_THAT(text.out, HasSubstr("USES"));
  EXPECT_THAT(text.out, HasSubstr("65536"));
}

TEST_F(KeyCommandsTest, RandomBytesGoToStandardOutput) {
  EXPECT_EQ(key("", "random --bytes 100").out.size(), 100U);
  EXPECT_EQ(key("", "random").out.size(), 32U);
  EXPECT_EQ(key("", "random --bytes 1025").status, 2);
  EXPECT_EQ(key("", "random --json").status, 2);
}

TEST_F(KeyCommandsTest, WhatWasEncryptedIsDecryptedFromStandardInput) {
  const std::string secret("a secret\nwith \x01 bytes", 21);
  const auto encrypted = key(secret, "encrypt default --context app=db");
  ASSERT_EQ(encrypted.status, 0) << encrypted.err;
  EXPECT_THAT(encrypted.out, testing::StartsWith("CFCB"));
  const auto decrypted = key(encrypted.out, "decrypt --context app=db");
  EXPECT_EQ(decrypted.status, 0) << decrypted.err;
  EXPECT_EQ(decrypted.out, secret);
  EXPECT_THAT(decrypted.err, IsEmpty());
  const auto other_context = key(encrypted.out, "decrypt");
  EXPECT_EQ(other_context.status, 65);
  EXPECT_THAT(other_context.err, HasSubstr("the same --context must be given"));

  const auto text = key(secret, "encrypt default --base64");
  EXPECT_TRUE(from_base64(text.out.substr(0, text.out.size() - 1)));
  EXPECT_EQ(key(text.out, "decrypt").out, secret);
  const auto document = json::parse(key(secret, "encrypt default --json").out);
  EXPECT_EQ(key(std::string(document.as_object().at("ciphertext").as_string()), "decrypt").out,
            secret);
}

TEST_F(KeyCommandsTest, PlaintextsHaveTheirLimitsAndAreNoJson) {
  EXPECT_EQ(key(std::string(4096, 'x'), "encrypt default").status, 0);
  const auto large = key(std::string(4097, 'x'), "encrypt default");
  EXPECT_EQ(large.status, 64);
  EXPECT_THAT(large.err, HasSubstr("more than 4096 bytes"));
  EXPECT_EQ(key("", "encrypt default").status, 64);
  EXPECT_EQ(key("x", "decrypt").status, 65);
  EXPECT_EQ(key("x", "decrypt --json").status, 2);
  EXPECT_EQ(key("x", "encrypt default --context novalue").status, 64);
  EXPECT_EQ(key("x", "encrypt none").status, 66);
  EXPECT_EQ(key("x", "decrypt default --context a=1").status, 2) << "of no use there";
  EXPECT_EQ(key("x", "decrypt --scheme sm2").status, 2);
}

TEST_F(KeyCommandsTest, DataAreEncryptedAnew) {
  engine->add_key("other");
  const auto first = key("text", "encrypt default --context a=1");
  const auto same = key(first.out, "reencrypt --context a=1");
  EXPECT_EQ(same.out, first.out);
  const auto moved = key(first.out, "reencrypt --to other --context a=1 --new-context b=2");
  ASSERT_EQ(moved.status, 0) << moved.err;
  EXPECT_EQ(key(moved.out, "decrypt --context b=2").out, "text");
  const auto bare = key(moved.out, "reencrypt --context b=2 --no-context");
  ASSERT_EQ(bare.status, 0) << bare.err;
  EXPECT_EQ(key(bare.out, "decrypt").out, "text");
}

TEST_F(KeyCommandsTest, ADataKeyComesPlainAndEncrypted) {
  const auto made = key("", "data-key default --bytes 48 --ciphertext " + file("wrapped"));
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_EQ(made.out.size(), 48U);
  const auto wrapped = read_file(file("wrapped"), 10'000);
  EXPECT_EQ(key(std::string(as_text(*wrapped)), "decrypt").out, made.out);
  const auto again = key("", "data-key default --ciphertext " + file("wrapped"));
  EXPECT_NE(again.status, 0) << "the only copy is replaced";
  EXPECT_EQ(again.out, "");
  EXPECT_EQ(*read_file(file("wrapped"), 10'000), *wrapped);
  EXPECT_EQ(key("", "data-key default --bytes 8 --ciphertext " + file("x")).status, 2);
  EXPECT_EQ(key("", "data-key default").status, 2);
}

TEST_F(KeyCommandsTest, AnAsymmetricKeyShowsItsPublicHalfSignsAndDecrypts) {
  ASSERT_EQ(coffer({"key", "create", "signer", "--algorithm", "EC-P256"}).status, 0);
  const auto pem = coffer({"key", "public-key", "signer"});
  EXPECT_EQ(pem.out, "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n");
  EXPECT_EQ(coffer({"key", "public-key", "signer", "--der"}).out, std::string("0\0", 2));
  EXPECT_EQ(coffer({"key", "public-key", "default"}).status, 64);
  EXPECT_EQ(key("message", "sign signer --base64").out.size(), 45U);
  EXPECT_EQ(key("0123456789abcdef0123456789abcdef", "sign signer --digest").out,
            "fedcba9876543210fedcba9876543210");

  ASSERT_EQ(coffer({"key", "create", "opener", "--algorithm", "RSA-2048", "--usage",
                    "asymmetric-decrypt"})
                .status,
            0);
  EXPECT_EQ(key("\x01yx", "decrypt opener --scheme rsa-pkcs1").out, "xy\x01");
}

TEST_F(KeyCommandsTest, MaterialIsImported) {
  ASSERT_EQ(coffer({"key", "create", "brought", "--imported"}).status, 0);
  const auto prepared = coffer({"key", "import-parameters", "brought", "--public-key",
                                file("public"), "--token", file("token")});
  ASSERT_EQ(prepared.status, 0) << prepared.err;
  EXPECT_THAT(prepared.out, HasSubstr(file("public")));
  EXPECT_EQ(read_file(file("token"), 100)->size(), 16U);
  const std::string longest(keyring::kImportWrappedBytesMax, 'w');
  const auto longer = key(longest + "w", "import brought --token " + file("token"));
  EXPECT_NE(longer.status, 0);
  EXPECT_THAT(longer.err, HasSubstr("8192"));
  const auto imported = key(longest, "import brought --valid-days 30 --token " + file("token"));
  EXPECT_EQ(imported.status, 0) << imported.err;
  EXPECT_EQ(shown("brought").at("State").as_string(), "Enabled");
  EXPECT_THAT(coffer({"key", "list"}).out, HasSubstr("expires 2"));
  EXPECT_EQ(key("wrapped", "import default --token " + file("token")).status, 69);
  EXPECT_EQ(key("wrapped", "import brought --token " + file("none")).status, 66);
}

TEST_F(KeyCommandsTest, APrivateKeyIsImportedAndItsPublicHalfIsThereThen) {
  ASSERT_EQ(coffer({"key", "create", "signer", "--imported", "--algorithm", "EC-P256", "--usage",
                    "sign-verify"})
                .status,
            0);
  const auto none = coffer({"key", "public-key", "signer"});
  EXPECT_EQ(none.status, 69);
  EXPECT_THAT(none.err, HasSubstr("KeyPendingImport"));
  ASSERT_EQ(coffer({"key", "import-parameters", "signer", "--public-key", file("public"), "--token",
                    file("token")})
                .status,
            0);
  EXPECT_THAT(engine->effects(), testing::Contains("key.prepare-import rsa-aes-key-wrap-sha256"));
  ASSERT_EQ(key("wrapped", "import signer --token " + file("token")).status, 0);
  EXPECT_EQ(coffer({"key", "public-key", "signer"}).status, 0);
}

}  // namespace
}  // namespace coffer::tests
