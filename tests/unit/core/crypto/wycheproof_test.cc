// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>

#include "core/base/encoding.h"
#include "core/base/files.h"
#include "core/crypto/aead.h"
#include "core/crypto/digest.h"
#include "core/crypto/kdf.h"
#include "core/crypto/key_wrap.h"
#include "core/crypto/rsa.h"
#include "core/crypto/xts.h"
#include "tests/support/paths.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

namespace json = boost::json;

// One test of a Wycheproof file, with the group it stands in.
class Case {
 public:
  Case(const json::object& group, const json::object& test) : group_(group), test_(test) {}

  Bytes bytes(std::string_view field) const {
    return from_hex(std::string_view(test_.at(field).as_string())).value_or(Bytes{});
  }
  Bytes group_bytes(std::string_view field) const {
    return from_hex(std::string_view(group_.at(field).as_string())).value_or(Bytes{});
  }
  std::size_t number(std::string_view field) const {
    return static_cast<std::size_t>(test_.at(field).as_int64());
  }
  std::string_view group_text(std::string_view field) const { return group_.at(field).as_string(); }
  std::size_t group_number(std::string_view field) const {
    return static_cast<std::size_t>(group_.at(field).as_int64());
  }
  bool valid() const { return test_.at("result").as_string() == "valid"; }
  std::string name() const { return "test " + std::to_string(number("tcId")); }

 private:
  const json::object& group_;
  const json::object& test_;
};

template <class Check>
void for_each_case(const std::string& file, Check check) {
  const auto text = read_file((vectors_dir() / "wycheproof" / file).string(), 1U << 22U);
  ASSERT_THAT(text, Succeeds());
  const json::value document = json::parse(as_text(*text));
  std::size_t count = 0;
  for (const auto& group : document.at("testGroups").as_array()) {
    for (const auto& test : group.at("tests").as_array()) {
      const Case one(group.as_object(), test.as_object());
      SCOPED_TRACE(file + " " + one.name());
      check(one);
      ++count;
    }
  }
  EXPECT_GT(count, 0U);
}

Bytes plain(const SecretBytes& secret) {
  return {secret.reveal().begin(), secret.reveal().end()};
}

Bytes joined(const Bytes& a, const Bytes& b) {
  return ByteWriter().raw(a).raw(b).take();
}

TEST(WycheproofTest, AesGcm) {
  for_each_case("aes_gcm.json", [](const Case& c) {
    const Bytes key = c.bytes("key");
    const Bytes nonce = c.bytes("iv");
    const Bytes aad = c.bytes("aad");
    const Bytes sealed = joined(c.bytes("ct"), c.bytes("tag"));
    const crypto::GcmContext context{nonce, aad};
    const auto opened = crypto::aes_gcm_open(key, context, sealed);
    if (nonce.empty() || nonce.size() > 128) {
      EXPECT_THAT(opened, FailsWith(Reason::kInvalidArgs));
      return;
    }
    if (!c.valid()) {
      EXPECT_THAT(opened, FailsWith(Reason::kBlobInvalid));
      return;
    }
    ASSERT_THAT(opened, Succeeds());
    EXPECT_EQ(plain(*opened), c.bytes("msg"));
    EXPECT_EQ(crypto::aes_gcm_seal(key, context, c.bytes("msg")).value(), sealed);
  });
}

TEST(WycheproofTest, AesKeyWrap) {
  for_each_case("aes_wrap.json", [](const Case& c) {
    const auto key = crypto::aes_kw_unwrap(c.bytes("key"), c.bytes("ct"));
    if (!c.valid()) {
      EXPECT_THAT(key, FailsWith(Reason::kBlobInvalid));
      return;
    }
    ASSERT_THAT(key, Succeeds());
    EXPECT_EQ(plain(*key), c.bytes("msg"));
    EXPECT_EQ(crypto::aes_kw_wrap(c.bytes("key"), c.bytes("msg")).value(), c.bytes("ct"));
  });
}

TEST(WycheproofTest, AesKeyWrapWithPadding) {
  for_each_case("aes_kwp.json", [](const Case& c) {
    const auto key = crypto::aes_kwp_unwrap(c.bytes("key"), c.bytes("ct"));
    if (!c.valid()) {
      EXPECT_THAT(key, FailsWith(Reason::kBlobInvalid));
      return;
    }
    ASSERT_THAT(key, Succeeds());
    EXPECT_EQ(plain(*key), c.bytes("msg"));
    EXPECT_EQ(crypto::aes_kwp_wrap(c.bytes("key"), c.bytes("msg")).value(), c.bytes("ct"));
  });
}

TEST(WycheproofTest, AesXts) {
  for_each_case("aes_xts.json", [](const Case& c) {
    const Bytes iv = c.bytes("iv");
    crypto::XtsTweak tweak{};
    std::copy(iv.begin(), iv.end(), tweak.begin());
    const Bytes text = c.bytes("msg");
    Bytes out(text.size());
    // IEEE 1619 has no AES-192.
    if (c.bytes("key").size() == 48) {
      EXPECT_THAT(crypto::aes_xts_encrypt(c.bytes("key"), tweak, text, out),
                  FailsWith(Reason::kInvalidArgs));
      return;
    }
    ASSERT_THAT(crypto::aes_xts_encrypt(c.bytes("key"), tweak, text, out), Succeeds());
    EXPECT_EQ(out, c.bytes("ct"));
    ASSERT_THAT(crypto::aes_xts_decrypt(c.bytes("key"), tweak, out, out), Succeeds());
    EXPECT_EQ(out, text);
  });
}

TEST(WycheproofTest, HkdfSha256) {
  for_each_case("hkdf_sha256.json", [](const Case& c) {
    const Bytes salt = c.bytes("salt");
    const Bytes info = c.bytes("info");
    const auto derived = crypto::hkdf_sha256(c.bytes("ikm"), {salt, info}, c.number("size"));
    if (!c.valid()) {
      EXPECT_THAT(derived, FailsWith(Reason::kInvalidArgs));
      return;
    }
    ASSERT_THAT(derived, Succeeds());
    EXPECT_EQ(plain(*derived), c.bytes("okm"));
  });
}

TEST(WycheproofTest, HmacSha256) {
  for_each_case("hmac_sha256.json", [](const Case& c) {
    const auto mac = crypto::hmac_sha256(c.bytes("key"), c.bytes("msg"));
    const ByteView cut = ByteView(mac).first(c.group_number("tagSize") / 8);
    EXPECT_EQ(equal_constant_time(cut, c.bytes("tag")), c.valid());
  });
}

TEST(WycheproofTest, Pbkdf2HmacSha256) {
  for_each_case("pbkdf2_hmacsha256.json", [](const Case& c) {
    const auto iterations = static_cast<std::uint32_t>(c.number("iterationCount"));
    const auto derived = crypto::pbkdf2_hmac_sha256(c.bytes("password"), c.bytes("salt"),
                                                    iterations, c.number("dkLen"));
    ASSERT_THAT(derived, Succeeds());
    EXPECT_EQ(plain(*derived), c.bytes("dk"));
  });
}

crypto::OaepHash oaep_hash(std::string_view name) {
  return name == "SHA-1" ? crypto::OaepHash::kSha1 : crypto::OaepHash::kSha256;
}

class WycheproofRsaOaepTest : public testing::TestWithParam<std::string> {};

TEST_P(WycheproofRsaOaepTest, Decrypts) {
  for_each_case(GetParam(), [](const Case& c) {
    const auto key = crypto::RsaPrivateKey::parse(c.group_bytes("privateKeyPkcs8"));
    ASSERT_THAT(key, Succeeds());
    const Bytes label = c.bytes("label");
    const crypto::OaepParams params{oaep_hash(c.group_text("sha")),
                                    oaep_hash(c.group_text("mgfSha")), label};
    const auto text = key->decrypt(params, c.bytes("ct"));
    if (!c.valid()) {
      EXPECT_THAT(text, FailsWith(Reason::kBlobInvalid));
      return;
    }
    ASSERT_THAT(text, Succeeds());
    EXPECT_EQ(plain(*text), c.bytes("msg"));
  });
}

INSTANTIATE_TEST_SUITE_P(Files, WycheproofRsaOaepTest,
                         testing::Values("rsa_oaep_2048_sha1_mgf1sha1.json",
                                         "rsa_oaep_2048_sha256_mgf1sha1.json",
                                         "rsa_oaep_2048_sha256_mgf1sha256.json",
                                         "rsa_oaep_3072_sha256_mgf1sha256.json",
                                         "rsa_oaep_4096_sha256_mgf1sha256.json"));

}  // namespace
}  // namespace coffer::tests
