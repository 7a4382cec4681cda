// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/ec.h"

#include <openssl/ec.h>

#include <algorithm>

#include "core/crypto/ec_key.h"
#include "core/crypto/openssl_error.h"

namespace coffer::crypto {
namespace {

using Signature = CHandle<ECDSA_SIG, ::ECDSA_SIG_free>;
using Number = CHandle<BIGNUM, ::BN_free>;

constexpr std::size_t kScalarBytesMax = 66;  // P-521

const char* group_of(EcCurve curve) {
  return curve == EcCurve::kP256 ? "prime256v1" : "secp384r1";
}

struct KeyOnCurve {
  std::shared_ptr<const KeyHandle> key;
  EcCurve curve;
};

Result<KeyOnCurve> parse_on_curve(ByteView pem_or_der, KeyHalf half) {
  auto key = parse_ec_key(pem_or_der, "EC", half);
  if (!key) return tl::unexpected(key.error());
  for (const EcCurve curve : {EcCurve::kP256, EcCurve::kP384}) {
    if (key->group == group_of(curve))
      return KeyOnCurve{std::make_shared<const KeyHandle>(KeyHandle{std::move(key->pkey)}), curve};
  }
  return fail(Reason::kInvalidArgs, "EC key on the curve " + key->group);
}

Result<void> check_digest(ByteView digest) {
  if (digest.size() == 32 || digest.size() == 48 || digest.size() == 64) return {};
  return fail(Reason::kInvalidArgs,
              "ECDSA signature of a digest of " + std::to_string(digest.size()) + " bytes");
}

Bytes written(const ECDSA_SIG* signature) {
  const int size = ::i2d_ECDSA_SIG(signature, nullptr);
  Bytes der(size > 0 ? static_cast<std::size_t>(size) : 0);
  unsigned char* at = out_uchars(der);
  if (!der.empty()) ::i2d_ECDSA_SIG(signature, &at);
  return der;
}

}  // namespace

Result<Bytes> signature_to_der(ByteView r_and_s, std::size_t size_bytes) {
  if (size_bytes == 0 || size_bytes > kScalarBytesMax || r_and_s.size() != 2 * size_bytes)
    return fail(Reason::kInvalidArgs, "signature of " + std::to_string(r_and_s.size()) + " bytes");
  const auto number = [](ByteView bytes) {
    return Number(::BN_bin2bn(uchars(bytes), static_cast<int>(bytes.size()), nullptr));
  };
  const Signature signature(::ECDSA_SIG_new());
  Number r = number(r_and_s.first(size_bytes));
  Number s = number(r_and_s.last(size_bytes));
  // Setting takes the numbers over; it fails only where there is none.
  if (signature == nullptr || r == nullptr || s == nullptr ||
      ::ECDSA_SIG_set0(signature.get(), r.release(), s.release()) != 1) {
    return openssl_failure(Reason::kInternal, "write a signature");
  }
  return written(signature.get());
}

Result<Bytes> signature_from_der(ByteView der, std::size_t size_bytes) {
  const unsigned char* at = uchars(der);
  const Signature signature(::d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size())));
  // Written again, it must be the same: there is one DER form only.
  if (signature == nullptr || !std::ranges::equal(written(signature.get()), der))
    return openssl_failure(Reason::kBlobInvalid, "the signature is not DER");
  Bytes out(2 * size_bytes);
  const std::span<std::byte> bytes(out);
  const int half = static_cast<int>(size_bytes);
  const BIGNUM* const r = ::ECDSA_SIG_get0_r(signature.get());
  const BIGNUM* const s = ::ECDSA_SIG_get0_s(signature.get());
  const bool fits = ::BN_is_negative(r) == 0 && ::BN_is_negative(s) == 0 &&
                    ::BN_bn2binpad(r, out_uchars(bytes.first(size_bytes)), half) == half &&
                    ::BN_bn2binpad(s, out_uchars(bytes.last(size_bytes)), half) == half;
  if (!fits) return fail(Reason::kBlobInvalid, "the signature is not of this curve");
  return out;
}

Result<EcPublicKey> EcPublicKey::parse(ByteView pem_or_der) {
  auto key = parse_on_curve(pem_or_der, KeyHalf::kPublic);
  if (!key) return tl::unexpected(key.error());
  return EcPublicKey(std::move(key->key), key->curve);
}

Result<Bytes> EcPublicKey::to_der() const {
  return public_to_der(key_->pkey.get());
}

Result<std::string> EcPublicKey::to_pem() const {
  return public_to_pem(key_->pkey.get());
}

Result<void> EcPublicKey::verify(ByteView digest, ByteView signature) const {
  if (const auto good = check_digest(digest); !good) return good;
  return pkey_verify(key_->pkey.get(), digest, signature, "ECDSA", nothing_to_set);
}

Result<EcPrivateKey> EcPrivateKey::generate(EcCurve curve) {
  Pkey key(::EVP_EC_gen(group_of(curve)));
  if (key == nullptr) return openssl_failure(Reason::kInternal, "make an EC key");
  return EcPrivateKey(std::make_shared<const KeyHandle>(KeyHandle{std::move(key)}), curve);
}

Result<EcPrivateKey> EcPrivateKey::parse(ByteView pem_or_der) {
  auto key = parse_on_curve(pem_or_der, KeyHalf::kPrivate);
  if (!key) return tl::unexpected(key.error());
  return EcPrivateKey(std::move(key->key), key->curve);
}

Result<SecretBytes> EcPrivateKey::to_der() const {
  return private_to_der(key_->pkey.get());
}

Result<EcPublicKey> EcPrivateKey::public_key() const {
  const auto der = public_to_der(key_->pkey.get());
  if (!der) return tl::unexpected(der.error());
  // Read back, so that what is handed out holds the public half alone.
  return EcPublicKey::parse(*der);
}

Result<Bytes> EcPrivateKey::sign(ByteView digest) const {
  if (const auto good = check_digest(digest); !good) return tl::unexpected(good.error());
  return pkey_sign(key_->pkey.get(), digest, "ECDSA", nothing_to_set);
}

}  // namespace coffer::crypto
