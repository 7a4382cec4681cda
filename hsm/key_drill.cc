// SPDX-License-Identifier: Apache-2.0
#include "hsm/key_drill.h"

#include <algorithm>
#include <vector>

#include "core/audit/record.h"
#include "core/crypto/ec.h"
#include "core/crypto/rsa.h"
#include "core/crypto/sm2.h"
#include "core/keyring/key_trial.h"

namespace coffer::hsm {

using keyring::CmkRecord;
using keyring::DecryptScheme;
using keyring::KeyAlgorithm;
using keyring::KeyState;
using keyring::KeyUsage;
using keyring::SignScheme;

namespace {

constexpr std::size_t kRecordsPerPage = 256;
constexpr std::size_t kNamedMax = 20;
constexpr std::size_t kSampleBytes = 32;

audit::Actor actor() {
  audit::Actor out;
  out.origin = audit::Origin::kCli;
  out.uid = 0;
  return out;
}

bool is_rsa(KeyAlgorithm algorithm) {
  return algorithm == KeyAlgorithm::kRsa2048 || algorithm == KeyAlgorithm::kRsa3072 ||
         algorithm == KeyAlgorithm::kRsa4096;
}

Result<void> verify(const CmkRecord& key, ByteView digest, ByteView signature) {
  const auto& der = key.current().public_key;
  if (is_rsa(key.algorithm)) {
    const auto half = crypto::RsaPublicKey::parse(der);
    if (!half) return tl::unexpected(half.error());
    return half->verify(crypto::RsaScheme::kPssSha256, digest, signature);
  }
  if (key.algorithm == KeyAlgorithm::kSm2) {
    const auto half = crypto::Sm2PublicKey::parse(der);
    if (!half) return tl::unexpected(half.error());
    return half->verify(digest, signature);
  }
  const auto half = crypto::EcPublicKey::parse(der);
  if (!half) return tl::unexpected(half.error());
  return half->verify(digest, signature);
}

Result<void> sign(const HostSetup::Agent& agent, const CmkRecord& key, const Bytes& digest) {
  const auto scheme = is_rsa(key.algorithm)                 ? SignScheme::kRsaPssSha256
                      : key.algorithm == KeyAlgorithm::kSm2 ? SignScheme::kSm2
                                                            : SignScheme::kEcdsa;
  const auto signature = agent.keyring.sign(key.id, scheme, {&digest, 1}, actor()).front();
  if (!signature) return tl::unexpected(signature.error());
  return verify(key, digest, *signature);
}

Result<Bytes> encrypt_to(const CmkRecord& key, ByteView plain) {
  const auto& der = key.current().public_key;
  if (key.algorithm == KeyAlgorithm::kSm2) {
    const auto half = crypto::Sm2PublicKey::parse(der);
    if (!half) return tl::unexpected(half.error());
    return half->encrypt(plain);
  }
  const auto half = crypto::RsaPublicKey::parse(der);
  if (!half) return tl::unexpected(half.error());
  return half->encrypt_pkcs1(plain);
}

Result<void> decrypt(const HostSetup::Agent& agent, const CmkRecord& key, const Bytes& plain) {
  const auto ciphertext = encrypt_to(key, plain);
  if (!ciphertext) return tl::unexpected(ciphertext.error());
  const auto scheme =
      key.algorithm == KeyAlgorithm::kSm2 ? DecryptScheme::kSm2 : DecryptScheme::kRsaPkcs1;
  const auto opened = agent.keyring.decrypt(key.id, scheme, {&*ciphertext, 1}, actor());
  if (!opened.front()) return tl::unexpected(opened.front().error());
  if (std::ranges::equal(opened.front()->reveal(), plain)) return {};
  return fail(Reason::kHsmFailed, "it decrypts to something else");
}

Result<void> use(const HostSetup::Agent& agent, const CmkRecord& key) {
  if (key.usage == KeyUsage::kEncryptDecrypt) {
    const auto tried =
        keyring::try_key(agent.keyring, key.id, agent.host.str(), actor(), system_clock());
    if (!tried) return tl::unexpected(tried.error());
    return {};
  }
  const auto drawn = SecretBytes::random(kSampleBytes);  // No secret: a sample.
  if (!drawn) return tl::unexpected(drawn.error());
  const Bytes sample(drawn->reveal().begin(), drawn->reveal().end());
  return key.usage == KeyUsage::kSignVerify ? sign(agent, key, sample)
                                            : decrypt(agent, key, sample);
}

// Whether a key is not used for what it is, not for the token.
bool is_at_rest(Reason reason) {
  return reason == Reason::kKeyPendingImport || reason == Reason::kKeyExhausted;
}

// True: it was used; false: its seal holds.
Result<bool> try_one(const HostSetup::Agent& agent, const keyring::StoredRecord& stored) {
  const auto record = CmkRecord::decode(stored.record);
  if (!record) return tl::unexpected(record.error());
  if (record->id != stored.id) return fail(Reason::kRecordInvalid, "it is another key's record");
  if (const auto holds = agent.vault.present(stored.record); !holds)
    return tl::unexpected(holds.error());
  if (record->state != KeyState::kEnabled) return false;
  const auto used = use(agent, *record);
  if (used) return true;
  if (is_at_rest(used.error().reason())) return false;
  return tl::unexpected(used.error());
}

}  // namespace

std::string DrillReport::str() const {
  return std::to_string(opened) + (opened == 1 ? " key opens" : " keys open") +
         (sealed == 0 ? std::string()
                      : "; " + std::to_string(sealed) +
                            " not in use, checked without being used: disabled, archived, to be "
                            "deleted or without material");
}

Result<DrillReport> drill_keys(const HostSetup::Agent& agent) {
  DrillReport report;
  std::vector<std::string> lost;
  std::string why;
  keyring::KeyQuery query;
  query.count_max = kRecordsPerPage;
  for (;;) {
    const auto page = agent.store.list(query);
    if (!page) return tl::unexpected(page.error());
    for (const auto& stored : *page) {
      const auto tried = try_one(agent, stored);
      if (tried) {
        ++(*tried ? report.opened : report.sealed);
        continue;
      }
      if (lost.empty()) why = tried.error().str();
      lost.push_back(stored.id.str());
    }
    if (page->size() < kRecordsPerPage) break;
    query.after = page->back().id;
  }
  if (lost.empty()) return report;
  std::string text = std::to_string(lost.size()) + " keys do not open on this token:";
  for (std::size_t i = 0; i < std::min(lost.size(), kNamedMax); ++i) text += " " + lost[i];
  if (lost.size() > kNamedMax) text += " …";
  return fail(Reason::kRecordInvalid, text + " (the first: " + why + ")");
}

}  // namespace coffer::hsm
