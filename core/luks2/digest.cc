// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/digest.h"

#include "core/crypto/kdf.h"
#include "core/luks2/activation_rules.h"

namespace coffer::luks2 {
namespace {

constexpr std::uint32_t kNewIterations = 1000;
constexpr std::size_t kNewBytes = 32;

std::optional<crypto::PbkdfHash> hash_by_name(std::string_view name) {
  if (name == "sha256") return crypto::PbkdfHash::kSha256;
  if (name == "sha512") return crypto::PbkdfHash::kSha512;
  return std::nullopt;
}

Result<SecretBytes> derive(const KeyDigest& digest, std::size_t size_bytes,
                           const SecretBytes& key) {
  const auto hash = hash_by_name(digest.hash);
  if (!hash)
    return fail(Reason::kHeaderInvalid, "volume key digest: hash " + printable(digest.hash, 32));
  if (digest.iterations == 0 || digest.iterations > kKdfIterationsMax) {
    return fail(Reason::kHeaderInvalid, "volume key digest: iterations above the limit");
  }
  return crypto::pbkdf2(key.reveal(), {*hash, digest.salt, digest.iterations}, size_bytes);
}

}  // namespace

Result<KeyDigest> key_digest_of(const Header& header, std::uint32_t key_bytes) {
  const Segment* const segment = header.data_segment();
  const Digest* const digest = segment == nullptr ? nullptr : header.digest_of(segment->id);
  if (digest == nullptr)
    return fail(Reason::kHeaderInvalid, "volume key digest: none for the data segment");
  const bool known = digest->type == "pbkdf2" && hash_by_name(digest->hash).has_value();
  const bool sized = digest->salt.size() <= kDigestSaltBytesMax && !digest->digest.empty() &&
                     digest->digest.size() <= kDigestBytesMax;
  if (!known || !sized)
    return fail(Reason::kHeaderInvalid, "volume key digest: of an unknown kind");
  return KeyDigest{digest->hash, digest->iterations, digest->salt, digest->digest, key_bytes};
}

Result<KeyDigest> make_key_digest(const SecretBytes& volume_key) {
  // Salt and digest are public; only random() gives them, and it gives locked memory.
  const auto salt = SecretBytes::random(kNewBytes);
  if (!salt) return pass(salt.error(), "draw digest salt");
  KeyDigest made{"sha256", kNewIterations, {}, {}, static_cast<std::uint32_t>(volume_key.size())};
  made.salt.assign(salt->reveal().begin(), salt->reveal().end());
  const auto digest = derive(made, kNewBytes, volume_key);
  if (!digest) return pass(digest.error(), "make volume key digest");
  made.digest.assign(digest->reveal().begin(), digest->reveal().end());
  return made;
}

Result<void> check_volume_key(const KeyDigest& digest, const SecretBytes& volume_key) {
  if (volume_key.size() != digest.key_bytes) {
    return fail(Reason::kWrongKey, "volume key: " + std::to_string(volume_key.size()) +
                                       " bytes instead of " + std::to_string(digest.key_bytes));
  }
  const auto derived = derive(digest, digest.digest.size(), volume_key);
  if (!derived) return tl::unexpected(derived.error());
  if (!equal_constant_time(derived->reveal(), digest.digest)) {
    return fail(Reason::kWrongKey, "volume key: the header's digest is of another key");
  }
  return {};
}

}  // namespace coffer::luks2
