// SPDX-License-Identifier: Apache-2.0
// What core/crypto leaves in memory of keys and texts once their owners are gone: nothing.
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <utility>
#include <vector>

#include "core/base/unique_fd.h"
#include "core/crypto/private_key_info.h"
#include "core/crypto/rsa.h"
#include "core/crypto/shamir.h"
#include "core/crypto/sm2.h"
#include "core/crypto/sm3.h"
#include "core/crypto/sm4.h"
#include "tests/support/memory_scan.h"
#include "tests/support/pkcs8_forms.h"
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

// A key of another hand, checked and written anew. The secret is its PKCS #8.
bool bring_rsa(SecretBytes& secret) {
  auto made = crypto::RsaPrivateKey::generate(2048)->to_der();
  const auto info = crypto::read_private_key_info(made->reveal());
  const auto key = crypto::RsaPrivateKey::parse(info->der.reveal());
  if (!key || !key->require_sound() || !key->to_der()) return false;
  secret = std::move(*made);
  return true;
}

// Each number that gives the key away, as DER has it and as OpenSSL calculates with it: the
// lowest limb first. The lower half of the long ones: the upper half of phi(n) is the modulus's,
// which everybody may know. p - 1 and q - 1 are found by what they have in common with p and q.
std::vector<Needle> rsa_needles(const char* name, ByteView pkcs8) {
  const RsaForm key = RsaForm::of(Pkcs8::of(pkcs8).key);
  const Bytes phi = key.phi().bytes();
  const Bytes lambda = key.lambda().bytes();
  const std::array<std::pair<const char*, ByteView>, 8> numbers{
      {{"d", key.numbers[RsaForm::kD]},
       {"p", key.numbers[RsaForm::kP]},
       {"q", key.numbers[RsaForm::kQ]},
       {"dp", key.numbers[RsaForm::kDp]},
       {"dq", key.numbers[RsaForm::kDq]},
       {"qinv", key.numbers[RsaForm::kQinv]},
       {"phi", phi},
       {"lambda", lambda}}};
  std::vector<Needle> needles;
  for (const auto& [number, view] : numbers) {
    const auto lower = view.last(std::min<std::size_t>(view.size(), 128));
    Bytes part(lower.begin(), lower.end());
    needles.emplace_back(std::string(name) + " " + number, part);
    std::ranges::reverse(part);
    needles.emplace_back(std::string(name) + " " + number + " in limbs", part);
  }
  return needles;
}

std::vector<Needle> one_needle(const char* name, ByteView secret) {
  return {Needle(name, secret)};
}

// Uses the secret that it is given, or one of its own, which is there then.
struct Use {
  const char* name;
  bool (*run)(SecretBytes&);
  std::vector<Needle> (*needles)(const char* name, ByteView secret) = one_needle;
};
constexpr std::array<Use, 7> kUses = {{{"SM4 key", use_sm4},
                                       {"SM4 text", use_sm4_text},
                                       {"HMAC-SM3 key", use_hmac},
                                       {"shared secret", use_shamir},
                                       {"SM2 text", use_sm2},
                                       {"RSA text", use_rsa},
                                       {"RSA key", bring_rsa, rsa_needles}}};

// The child: uses a secret for each of kUses, tells the parent how long they were and what, masked,
// and waits to be killed.
[[noreturn]] void be_the_child(int fd) {
  for (const auto& use : kUses) {
    Bytes masked;
    {
      auto secret = SecretBytes::random(kSecretBytes);
      if (!secret || !use.run(*secret)) ::_exit(1);
      for (const auto byte : secret->reveal()) masked.push_back(byte ^ Needle::kMask);
    }
    const std::size_t size = masked.size();
    if (::write(fd, &size, sizeof size) != ssize_t{sizeof size} ||
        ::write(fd, masked.data(), size) != static_cast<ssize_t>(size)) {
      ::_exit(2);
    }
  }
  for (;;) ::pause();
}

// What the child tells of one use; empty when it has failed.
Bytes told(int fd) {
  std::size_t size = 0;
  if (::read(fd, &size, sizeof size) != ssize_t{sizeof size}) return {};
  Bytes secret(size);
  // Written at once and shorter than PIPE_BUF.
  if (::read(fd, secret.data(), size) != static_cast<ssize_t>(size)) return {};
  for (auto& byte : secret) byte ^= Needle::kMask;
  return secret;
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
  std::size_t uses = 0;
  for (const auto& use : kUses) {
    const Bytes secret = told(in.get());
    if (secret.empty()) break;
    ++uses;
    for (auto& needle : use.needles(use.name, secret)) needles.push_back(std::move(needle));
  }
  const auto hits = scan_process(child, needles);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ASSERT_EQ(uses, kUses.size()) << "the child failed at the next use";
  ASSERT_THAT(hits, Succeeds());
  EXPECT_TRUE(hits->empty()) << describe(*hits);
}

}  // namespace
}  // namespace coffer::tests
