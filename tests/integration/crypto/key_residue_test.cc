// SPDX-License-Identifier: Apache-2.0
// What core/crypto leaves in memory of keys and texts once their owners are gone: nothing.
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "core/base/unique_fd.h"
#include "core/crypto/der.h"
#include "core/crypto/private_key_info.h"
#include "core/crypto/rsa.h"
#include "core/crypto/shamir.h"
#include "core/crypto/sm2.h"
#include "core/crypto/sm3.h"
#include "core/crypto/sm4.h"
#include "tests/support/memory_scan.h"
#include "tests/support/result_matchers.h"
#include "tests/support/sanitizers.h"

namespace coffer::tests {
namespace {

constexpr std::size_t kSecretBytes = 32;

bool use_sm4(SecretBytes& secret) {
  const auto key = secret.reveal().first(crypto::kSm4KeyBytes);
  const Bytes nonce(12);
  const auto sealed = crypto::sm4_gcm_seal(key, {nonce, {}}, as_bytes("text"));
  if (!sealed || !crypto::sm4_gcm_open(key, {nonce, {}}, *sealed)) return false;
  Bytes out(100);
  if (!crypto::sm4_ctr(key, {}, out, out)) return false;
  const auto chained = crypto::sm4_cbc_encrypt(key, {}, out);
  return chained && crypto::sm4_cbc_decrypt(key, {}, *chained);
}

bool use_sm4_text(SecretBytes& secret) {
  const Bytes key(crypto::kSm4KeyBytes);
  const Bytes nonce(12);
  const auto sealed = crypto::sm4_gcm_seal(key, {nonce, {}}, secret.reveal());
  const auto chained = crypto::sm4_cbc_encrypt(key, {}, secret.reveal());
  return sealed && chained && crypto::sm4_gcm_open(key, {nonce, {}}, *sealed) &&
         crypto::sm4_cbc_decrypt(key, {}, *chained);
}

bool use_hmac(SecretBytes& secret) {
  return crypto::hmac_sm3(secret.reveal(), as_bytes("text")) != crypto::Sm3Digest{};
}

bool use_shamir(SecretBytes& secret) {
  const auto shares = crypto::shamir_split(secret, {2, 3});
  if (!shares) return false;
  const std::vector<crypto::ShamirPoint> points{{1, shares->at(0).reveal()},
                                                {3, shares->at(2).reveal()}};
  return crypto::shamir_combine(points).has_value();
}

bool use_sm2(SecretBytes& secret) {
  const auto key = crypto::Sm2PrivateKey::generate();
  const auto sent = key->public_key()->encrypt(secret.reveal());
  const auto text = key->decrypt(*sent);
  return text && equal_constant_time(text->reveal(), secret.reveal());
}

bool use_rsa(SecretBytes& secret) {
  const auto key = crypto::RsaPrivateKey::generate(2048);
  const auto sent = key->public_key()->encrypt_pkcs1(secret.reveal());
  const auto text = key->decrypt_pkcs1(*sent);
  return text && equal_constant_time(text->reveal(), secret.reveal());
}

// A part of the number at `index` of an RSAPrivateKey, as DER has it or as OpenSSL calculates with
// it.
void take_number(ByteView pkcs8, int index, bool turned, SecretBytes& out) {
  ByteReader outer(pkcs8);
  ByteReader info(crypto::read_der(outer, crypto::kDerSequence));
  crypto::read_der_number(info);
  crypto::read_der(info, crypto::kDerSequence);
  ByteReader key(crypto::read_der(info, crypto::kDerOctetString));
  ByteReader in(crypto::read_der(key, crypto::kDerSequence));
  for (int i = 0; i <= index; ++i) crypto::read_der_number(in);
  const auto part = crypto::read_der_number(in).subspan(16, kSecretBytes);
  std::ranges::copy(part, out.reveal_mutable().begin());
  if (turned) std::ranges::reverse(out.reveal_mutable());
}

// A key of another hand, checked and written anew. What is looked for is a part of it.
bool bring_rsa(SecretBytes& secret, int index, bool turned) {
  const auto made = crypto::RsaPrivateKey::generate(2048)->to_der();
  const auto info = crypto::read_private_key_info(made->reveal());
  take_number(made->reveal(), index, turned, secret);
  const auto key = crypto::RsaPrivateKey::parse(info->der.reveal());
  return key && key->require_sound() && key->to_der();
}
bool bring_rsa_prime(SecretBytes& secret) {
  return bring_rsa(secret, 3, false);
}
bool bring_rsa_prime_as_limbs(SecretBytes& secret) {
  return bring_rsa(secret, 3, true);
}
bool bring_rsa_exponent_as_limbs(SecretBytes& secret) {
  return bring_rsa(secret, 2, true);
}

// Uses the secret that it is given, or one of its own, which is there then.
struct Use {
  const char* name;
  bool (*run)(SecretBytes&);
};
constexpr std::array<Use, 9> kUses = {{{"SM4 key", use_sm4},
                                       {"SM4 text", use_sm4_text},
                                       {"HMAC-SM3 key", use_hmac},
                                       {"shared secret", use_shamir},
                                       {"SM2 text", use_sm2},
                                       {"RSA text", use_rsa},
                                       {"RSA prime", bring_rsa_prime},
                                       {"RSA prime in limbs", bring_rsa_prime_as_limbs},
                                       {"RSA exponent in limbs", bring_rsa_exponent_as_limbs}}};

using Masked = std::array<std::byte, kSecretBytes>;

// The child: uses a secret for each of kUses, tells the parent what they were, masked, and waits to
// be killed.
[[noreturn]] void be_the_child(int fd) {
  for (const auto& use : kUses) {
    Masked masked{};
    {
      auto secret = SecretBytes::random(kSecretBytes);
      if (!secret || !use.run(*secret)) ::_exit(1);
      for (std::size_t i = 0; i < kSecretBytes; ++i)
        masked.at(i) = secret->reveal()[i] ^ Needle::kMask;
    }
    if (::write(fd, masked.data(), masked.size()) != kSecretBytes) ::_exit(2);
  }
  for (;;) ::pause();
}

TEST(KeyResidueTest, NothingIsLeftWhenTheOwnersAreGone) {
  if (!kMemoryLocks) GTEST_SKIP() << "a sanitizer keeps freed memory";
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  const pid_t child = ::fork();
  if (child == 0) be_the_child(out.get());
  out.reset();  // So that the end of a child that fails is seen.
  ASSERT_GT(child, 0);

  std::vector<Needle> needles;
  for (const auto& use : kUses) {
    Masked secret{};
    const auto got = ::read(in.get(), secret.data(), secret.size());
    if (got != static_cast<ssize_t>(secret.size())) break;
    for (auto& byte : secret) byte ^= Needle::kMask;
    needles.emplace_back(use.name, secret);
  }
  const auto hits = scan_process(child, needles);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ASSERT_EQ(needles.size(), kUses.size()) << "the child failed at the next use";
  ASSERT_THAT(hits, Succeeds());
  EXPECT_TRUE(hits->empty()) << describe(*hits);
}

}  // namespace
}  // namespace coffer::tests
