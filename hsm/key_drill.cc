// SPDX-License-Identifier: Apache-2.0
#include "hsm/key_drill.h"

#include <algorithm>

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

// Whether it was the vault that could not be asked, whatever the key is.
bool is_of_vault(const Error& error) {
  if (error.reason() == Reason::kHsmFailed) return false;  // May be said of a single key.
  return error.code() == Errc::kUnavailable || error.code() == Errc::kResourceExhausted ||
         error.reason() == Reason::kHsmKeyUnsafe;  // The root key, which all are under.
}

// Whether a key is not used for what it is, not for the token.
bool is_at_rest(Reason reason) {
  return reason == Reason::kKeyPendingImport || reason == Reason::kKeyExhausted;
}

enum class Tried : std::uint8_t { kOpens, kSealed, kResidentSealed };

Result<Tried> try_one(const HostSetup::Agent& agent, const keyring::StoredRecord& stored,
                      std::string& alias) {
  const auto record = CmkRecord::decode(stored.record);
  if (!record) return tl::unexpected(record.error());
  if (record->id != stored.id) return fail(Reason::kRecordInvalid, "it is another key's record");
  alias = record->alias;
  if (const auto holds = agent.vault.present(stored.record); !holds)
    return tl::unexpected(holds.error());
  const bool resident = record->protection == keyring::Protection::kResident;
  const auto at_rest = resident ? Tried::kResidentSealed : Tried::kSealed;
  if (record->state != KeyState::kEnabled) return at_rest;
  const auto used = use(agent, *record);
  if (used) return Tried::kOpens;
  if (is_at_rest(used.error().reason())) return at_rest;
  if (resident && !is_of_vault(used.error()))
    return pass(used.error(), "it was made in a token that it never left, and this is another one");
  return tl::unexpected(used.error());
}

void count(Tried tried, DrillReport& report) {
  report.opened += tried == Tried::kOpens ? 1 : 0;
  report.sealed += tried == Tried::kOpens ? 0 : 1;
  report.resident += tried == Tried::kResidentSealed ? 1 : 0;
}

std::string of_keys(std::uint64_t number, std::string_view one, std::string_view more) {
  return std::to_string(number) + " " + std::string(number == 1 ? one : more);
}

}  // namespace

std::string DrillReport::str() const {
  std::string text = of_keys(opened, "key opens", "keys open");
  if (sealed > 0) {
    text += "; " + std::to_string(sealed) +
            " not in use, checked without being used: disabled, archived, to be deleted or without "
            "material";
  }
  if (resident > 0)
    text += "; " + std::to_string(resident) + " of these made in a token that they never left";
  if (!lost.empty()) text += "; " + of_keys(lost.count, "key does", "keys do") + " not open";
  return text;
}

Bytes DrillReport::encode() const {
  ByteWriter out;
  out.u64(opened).u64(sealed).u64(resident);
  lost.write(out);
  return out.take();
}

Result<DrillReport> DrillReport::decode(ByteView bytes) {
  ByteReader in(bytes);
  DrillReport report;
  report.opened = in.u64();
  report.sealed = in.u64();
  report.resident = in.u64();
  report.lost = NamedKeys::read(in);
  if (const auto whole = in.finish(Reason::kInternal, "outcome of a drill"); !whole)
    return tl::unexpected(whole.error());
  return report;
}

Result<DrillReport> drill_keys(const HostSetup::Agent& agent) {
  DrillReport report;
  keyring::KeyQuery query;
  query.count_max = kRecordsPerPage;
  for (;;) {
    const auto page = agent.store.list(query);
    if (!page) return tl::unexpected(page.error());
    for (const auto& stored : *page) {
      std::string alias;
      auto tried = try_one(agent, stored, alias);
      // It is the key's only when the token is up and fails with it again.
      if (!tried && tried.error().reason() == Reason::kHsmFailed) {
        const auto health = agent.vault.health();
        if (health.state != keyring::VaultState::kUp)
          return fail(Reason::kHsmAbsent, "the token is not up: " + health.detail);
        tried = try_one(agent, stored, alias);
      }
      if (tried) {
        count(*tried, report);
        continue;
      }
      // A token that went away says nothing of the key, nor does a limit that was reached.
      if (is_of_vault(tried.error())) return tl::unexpected(tried.error());
      report.lost.add(stored.id, alias, tried.error().str());
    }
    if (page->size() < kRecordsPerPage) return report;
    query.after = page->back().id;
  }
}

}  // namespace coffer::hsm
