// SPDX-License-Identifier: Apache-2.0
#include "hsm/imported_pair.h"

#include <string>
#include <utility>

#include "core/crypto/ec.h"
#include "core/crypto/private_key_info.h"
#include "core/crypto/rsa.h"
#include "core/crypto/sm2.h"

namespace coffer::hsm {
namespace {

using crypto::PrivateKeyInfo;
using crypto::PrivateKeyKind;
using keyring::KeyAlgorithm;

PrivateKeyKind kind_of(KeyAlgorithm algorithm) {
  switch (algorithm) {
    case KeyAlgorithm::kSm2:
      return PrivateKeyKind::kSm2;
    case KeyAlgorithm::kEcP256:
      return PrivateKeyKind::kEcP256;
    case KeyAlgorithm::kEcP384:
      return PrivateKeyKind::kEcP384;
    default:
      return PrivateKeyKind::kRsa;
  }
}

std::size_t modulus_bits(KeyAlgorithm algorithm) {
  if (algorithm == KeyAlgorithm::kRsa2048) return 2048;
  return algorithm == KeyAlgorithm::kRsa3072 ? 3072 : 4096;
}

Result<KeyPair> rsa_pair(KeyAlgorithm algorithm, const PrivateKeyInfo& info) {
  const auto key = crypto::RsaPrivateKey::parse(info.der.reveal());
  if (!key) return tl::unexpected(key.error());
  // Before its numbers are looked at, which takes time.
  if (key->size_bits() != modulus_bits(algorithm)) {
    return fail(Reason::kInvalidArgs, "it has " + std::to_string(key->size_bits()) + " bits");
  }
  if (const auto sound = key->require_sound(); !sound) return tl::unexpected(sound.error());
  return key_pair_of(key);
}

// The point that was brought with the private half, if any, has to be the one that follows from it.
template <class Private>
Result<KeyPair> ec_pair(const PrivateKeyInfo& info, std::size_t scalar_bytes) {
  auto pair = key_pair_of(Private::parse(info.der.reveal()));
  if (!pair || info.point.empty()) return pair;
  const std::size_t point_bytes = 1 + 2 * scalar_bytes;
  const ByteView own = pair->public_key;  // The point stands at its end.
  if (own.size() > point_bytes && crypto::is_same_point(info.point, own.last(point_bytes)))
    return pair;
  return fail(Reason::kInvalidArgs, "the public key in it is another key's");
}

Result<KeyPair> pair_of(KeyAlgorithm algorithm, const SecretBytes& pkcs8) {
  const auto info = crypto::read_private_key_info(pkcs8.reveal());
  if (!info) return tl::unexpected(info.error());
  if (info->kind != kind_of(algorithm))
    return fail(Reason::kInvalidArgs, "it is of another algorithm or curve");
  switch (info->kind) {
    case PrivateKeyKind::kSm2:
      return ec_pair<crypto::Sm2PrivateKey>(*info, crypto::kSm2ScalarBytes);
    case PrivateKeyKind::kEcP256:
      return ec_pair<crypto::EcPrivateKey>(*info, crypto::scalar_bytes(crypto::EcCurve::kP256));
    case PrivateKeyKind::kEcP384:
      return ec_pair<crypto::EcPrivateKey>(*info, crypto::scalar_bytes(crypto::EcCurve::kP384));
    case PrivateKeyKind::kRsa:
      break;
  }
  return rsa_pair(algorithm, *info);
}

}  // namespace

Result<KeyPair> imported_pair(KeyAlgorithm algorithm, const SecretBytes& pkcs8) {
  auto pair = pair_of(algorithm, pkcs8);
  if (pair || pair.error().reason() != Reason::kInvalidArgs) return pair;
  return fail(Reason::kImportRefused, "no private key of " +
                                          std::string(key_algorithm_name(algorithm)) +
                                          " that is imported: " + pair.error().message());
}

}  // namespace coffer::hsm
