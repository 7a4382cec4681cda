// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/digest.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <new>

#include "core/base/unique_fd.h"
#include "core/crypto/openssl_error.h"

namespace coffer::crypto {
namespace {

using DigestContext = CHandle<EVP_MD_CTX, ::EVP_MD_CTX_free>;
using Mac = CHandle<EVP_MAC, ::EVP_MAC_free>;
using MacContext = CHandle<EVP_MAC_CTX, ::EVP_MAC_CTX_free>;

// Hashing fixed algorithms fails for want of memory alone.
void require(bool done) {
  if (!done) throw std::bad_alloc();
}

// Fetched once: a lookup by name costs more than hashing a record.
const EVP_MD* sha256_algorithm() {
  static EVP_MD* const kAlgorithm = ::EVP_MD_fetch(nullptr, "SHA256", nullptr);
  require(kAlgorithm != nullptr);
  return kAlgorithm;
}

EVP_MAC* hmac_algorithm() {
  static EVP_MAC* const kAlgorithm = ::EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  require(kAlgorithm != nullptr);
  return kAlgorithm;
}

}  // namespace

struct Sha256::State {
  DigestContext context{::EVP_MD_CTX_new()};
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  require(state_->context != nullptr &&
          ::EVP_DigestInit_ex2(state_->context.get(), sha256_algorithm(), nullptr) == 1);
}

Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;

Sha256& Sha256::update(ByteView bytes) {
  require(::EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size()) == 1);
  return *this;
}

Sha256Digest Sha256::finish() {
  Sha256Digest digest{};
  require(::EVP_DigestFinal_ex(state_->context.get(), out_uchars(digest), nullptr) == 1 &&
          ::EVP_DigestInit_ex2(state_->context.get(), sha256_algorithm(), nullptr) == 1);
  return digest;
}

Sha256Digest sha256(ByteView bytes) {
  return Sha256().update(bytes).finish();
}

struct HmacSha256::State {
  MacContext context{::EVP_MAC_CTX_new(hmac_algorithm())};
};

HmacSha256::HmacSha256(ByteView key) : state_(std::make_unique<State>()) {
  std::string name = "SHA256";
  const std::array<OSSL_PARAM, 2> params{
      ::OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name.data(), 0),
      ::OSSL_PARAM_construct_end()};
  require(state_->context != nullptr &&
          ::EVP_MAC_init(state_->context.get(), uchars(key), key.size(), params.data()) == 1);
}

HmacSha256::HmacSha256(HmacSha256&&) noexcept = default;
HmacSha256& HmacSha256::operator=(HmacSha256&&) noexcept = default;
HmacSha256::~HmacSha256() = default;

HmacSha256& HmacSha256::update(ByteView bytes) {
  require(::EVP_MAC_update(state_->context.get(), uchars(bytes), bytes.size()) == 1);
  return *this;
}

Sha256Digest HmacSha256::finish() {
  Sha256Digest digest{};
  std::size_t written = 0;
  // Initialising without a key starts again with the one it has.
  require(::EVP_MAC_final(state_->context.get(), out_uchars(digest), &written, digest.size()) ==
              1 &&
          ::EVP_MAC_init(state_->context.get(), nullptr, 0, nullptr) == 1);
  return digest;
}

Sha256Digest hmac_sha256(ByteView key, ByteView bytes) {
  return HmacSha256(key).update(bytes).finish();
}

}  // namespace coffer::crypto
