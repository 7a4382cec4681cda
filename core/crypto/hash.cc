// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/hash.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <new>

#include "core/base/unique_fd.h"
#include "core/crypto/openssl_error.h"

namespace coffer::crypto {
namespace {

using DigestContext = CHandle<EVP_MD_CTX, ::EVP_MD_CTX_free>;
using MacContext = CHandle<EVP_MAC_CTX, ::EVP_MAC_CTX_free>;

// Hashing fixed algorithms fails for want of memory alone.
void require(bool done) {
  if (!done) throw std::bad_alloc();
}

constexpr const char* name_of(HashAlgorithm algorithm) {
  return algorithm == HashAlgorithm::kSha256 ? "SHA256" : "SM3";
}

// Fetched once: a lookup by name costs more than hashing a record.
template <HashAlgorithm algorithm>
const EVP_MD* fetched() {
  static EVP_MD* const kFetched = ::EVP_MD_fetch(nullptr, name_of(algorithm), nullptr);
  require(kFetched != nullptr);
  return kFetched;
}

EVP_MAC* hmac_algorithm() {
  static EVP_MAC* const kFetched = ::EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  require(kFetched != nullptr);
  return kFetched;
}

}  // namespace

template <HashAlgorithm algorithm>
struct Hash<algorithm>::State {
  DigestContext context{::EVP_MD_CTX_new()};
};

template <HashAlgorithm algorithm>
Hash<algorithm>::Hash() : state_(std::make_unique<State>()) {
  require(state_->context != nullptr &&
          ::EVP_DigestInit_ex2(state_->context.get(), fetched<algorithm>(), nullptr) == 1);
}

template <HashAlgorithm algorithm>
Hash<algorithm>::Hash(Hash&&) noexcept = default;
template <HashAlgorithm algorithm>
Hash<algorithm>& Hash<algorithm>::operator=(Hash&&) noexcept = default;
template <HashAlgorithm algorithm>
Hash<algorithm>::~Hash() = default;

template <HashAlgorithm algorithm>
Hash<algorithm>& Hash<algorithm>::update(ByteView bytes) {
  require(::EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size()) == 1);
  return *this;
}

template <HashAlgorithm algorithm>
HashDigest Hash<algorithm>::finish() {
  HashDigest digest{};
  require(::EVP_DigestFinal_ex(state_->context.get(), out_uchars(digest), nullptr) == 1 &&
          ::EVP_DigestInit_ex2(state_->context.get(), fetched<algorithm>(), nullptr) == 1);
  return digest;
}

template <HashAlgorithm algorithm>
struct Hmac<algorithm>::State {
  MacContext context{::EVP_MAC_CTX_new(hmac_algorithm())};
};

template <HashAlgorithm algorithm>
Hmac<algorithm>::Hmac(ByteView key) : state_(std::make_unique<State>()) {
  std::string name = name_of(algorithm);
  const std::array<OSSL_PARAM, 2> params{
      ::OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name.data(), 0),
      ::OSSL_PARAM_construct_end()};
  require(state_->context != nullptr &&
          ::EVP_MAC_init(state_->context.get(), uchars(key), key.size(), params.data()) == 1);
}

template <HashAlgorithm algorithm>
Hmac<algorithm>::Hmac(Hmac&&) noexcept = default;
template <HashAlgorithm algorithm>
Hmac<algorithm>& Hmac<algorithm>::operator=(Hmac&&) noexcept = default;
template <HashAlgorithm algorithm>
Hmac<algorithm>::~Hmac() = default;

template <HashAlgorithm algorithm>
Hmac<algorithm>& Hmac<algorithm>::update(ByteView bytes) {
  require(::EVP_MAC_update(state_->context.get(), uchars(bytes), bytes.size()) == 1);
  return *this;
}

template <HashAlgorithm algorithm>
HashDigest Hmac<algorithm>::finish() {
  HashDigest digest{};
  std::size_t written = 0;
  // Initialising without a key starts again with the one it has.
  require(::EVP_MAC_final(state_->context.get(), out_uchars(digest), &written, digest.size()) ==
              1 &&
          ::EVP_MAC_init(state_->context.get(), nullptr, 0, nullptr) == 1);
  return digest;
}

template class Hash<HashAlgorithm::kSha256>;
template class Hash<HashAlgorithm::kSm3>;
template class Hmac<HashAlgorithm::kSha256>;
template class Hmac<HashAlgorithm::kSm3>;

}  // namespace coffer::crypto
