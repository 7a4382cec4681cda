// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/rsa_numbers.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/params.h>

#include <algorithm>
#include <array>
#include <bit>
#include <optional>
#include <string>

#include "core/base/bytes.h"
#include "core/base/unique_fd.h"
#include "core/crypto/openssl_error.h"

namespace coffer::crypto {
namespace {

// Wiped when they are freed, as are the numbers that a context lends.
using Number = CHandle<BIGNUM, ::BN_clear_free>;
using Context = CHandle<BN_CTX, ::BN_CTX_free>;

constexpr std::size_t kExponentBytesMax = 8;

tl::unexpected<Error> cannot_calculate() {
  return openssl_failure(Reason::kInternal, "calculate with the numbers of an RSA key");
}

tl::unexpected<Error> not_sound(const char* what) {
  return fail(Reason::kInvalidArgs, std::string("RSA key ") + what);
}

Number new_number() {
  Number number(::BN_secure_new());
  // So that OpenSSL takes the way whose time does not depend on it, where it has two.
  if (number != nullptr) ::BN_set_flags(number.get(), BN_FLG_CONSTTIME);
  return number;
}

Result<Number> read_number(EVP_PKEY* key, const char* name, std::size_t size_bytes) {
  const auto bytes = rsa_number(key, name, size_bytes);
  if (!bytes) return tl::unexpected(bytes.error());
  Number number = new_number();
  const auto view = bytes->reveal();
  if (number == nullptr ||
      ::BN_bin2bn(uchars(view), static_cast<int>(view.size()), number.get()) == nullptr) {
    return cannot_calculate();
  }
  return number;
}

// A factor and what the key holds of it: d mod (factor - 1).
struct Factor {
  Number prime;
  Number exponent;
};

struct Numbers {
  Number n, e, d, inverse;  // inverse * q = 1 mod p.
  Factor p, q;
};

Result<Factor> read_factor(EVP_PKEY* key, const char* prime_name, const char* exponent_name,
                           std::size_t size_bytes) {
  auto prime = read_number(key, prime_name, size_bytes);
  if (!prime) return tl::unexpected(prime.error());
  if (static_cast<std::size_t>(::BN_num_bits(prime->get())) != size_bytes * 8)
    return not_sound("whose factors are of different lengths");
  auto exponent = read_number(key, exponent_name, size_bytes);
  if (!exponent) return tl::unexpected(exponent.error());
  return Factor{std::move(*prime), std::move(*exponent)};
}

Result<Numbers> read_numbers(EVP_PKEY* key) {
  const auto bits = static_cast<std::size_t>(::EVP_PKEY_get_bits(key));
  const std::size_t modulus_bytes = (bits + 7) / 8;
  const std::size_t factor_bytes = bits / 16;
  auto n = read_number(key, OSSL_PKEY_PARAM_RSA_N, modulus_bytes);
  if (!n) return tl::unexpected(n.error());
  auto e = read_number(key, OSSL_PKEY_PARAM_RSA_E, kExponentBytesMax);
  if (!e) return tl::unexpected(e.error());
  auto d = read_number(key, OSSL_PKEY_PARAM_RSA_D, modulus_bytes);
  if (!d) return tl::unexpected(d.error());
  auto p =
      read_factor(key, OSSL_PKEY_PARAM_RSA_FACTOR1, OSSL_PKEY_PARAM_RSA_EXPONENT1, factor_bytes);
  if (!p) return tl::unexpected(p.error());
  auto q =
      read_factor(key, OSSL_PKEY_PARAM_RSA_FACTOR2, OSSL_PKEY_PARAM_RSA_EXPONENT2, factor_bytes);
  if (!q) return tl::unexpected(q.error());
  auto inverse = read_number(key, OSSL_PKEY_PARAM_RSA_COEFFICIENT1, factor_bytes);
  if (!inverse) return tl::unexpected(inverse.error());
  return Numbers{std::move(*n),       std::move(*e), std::move(*d),
                 std::move(*inverse), std::move(*p), std::move(*q)};
}

// The checks below: nothing when OpenSSL fails.
using Answer = std::optional<bool>;

// p != q, p * q = n, inverse * q = 1 mod p, and the inverse below p.
Answer factors_fit(const Numbers& key, BN_CTX* context) {
  const Number product = new_number();
  const BIGNUM* const p = key.p.prime.get();
  const BIGNUM* const q = key.q.prime.get();
  if (product == nullptr || ::BN_mul(product.get(), p, q, context) != 1) return {};
  if (::BN_cmp(p, q) == 0 || ::BN_cmp(product.get(), key.n.get()) != 0) return false;
  if (::BN_mod_mul(product.get(), key.inverse.get(), q, p, context) != 1) return {};
  return ::BN_is_one(product.get()) == 1 && ::BN_cmp(key.inverse.get(), p) < 0;
}

// d * e = 1 mod (prime - 1) for both factors is d * e = 1 mod lambda(n), which nobody has to know.
Answer exponents_fit(const Numbers& key, const Factor& factor, BN_CTX* context) {
  const Number less_one = new_number();
  const Number result = new_number();
  if (less_one == nullptr || result == nullptr ||
      ::BN_sub(less_one.get(), factor.prime.get(), ::BN_value_one()) != 1 ||
      ::BN_nnmod(result.get(), key.d.get(), less_one.get(), context) != 1) {
    return {};
  }
  if (::BN_cmp(result.get(), factor.exponent.get()) != 0) return false;
  if (::BN_mod_mul(result.get(), factor.exponent.get(), key.e.get(), less_one.get(), context) != 1)
    return {};
  return ::BN_is_one(result.get()) == 1;
}

Answer is_prime(const Factor& factor, BN_CTX* context) {
  const int prime = ::BN_check_prime(factor.prime.get(), context, nullptr);
  if (prime < 0) return {};
  return prime == 1;
}

Result<void> require(Answer answer, const char* otherwise) {
  if (!answer) return cannot_calculate();
  return *answer ? Result<void>() : not_sound(otherwise);
}

}  // namespace

Result<SecretBytes> rsa_number(EVP_PKEY* key, const char* name, std::size_t size_bytes) {
  auto out = SecretBytes::zeroed(size_bytes);
  if (!out) return out;
  const auto bytes = out->reveal_mutable();
  std::array<OSSL_PARAM, 2> params{::OSSL_PARAM_construct_BN(name, out_uchars(bytes), bytes.size()),
                                   ::OSSL_PARAM_construct_end()};
  if (::EVP_PKEY_get_params(key, params.data()) != 1)
    return openssl_failure(Reason::kInvalidArgs, std::string("read ") + name + " of an RSA key");
  // OpenSSL writes it in the machine's byte order and fills up with zeros.
  if constexpr (std::endian::native == std::endian::little) std::ranges::reverse(bytes);
  return out;
}

Result<void> require_sound_rsa(EVP_PKEY* key) {
  const auto numbers = read_numbers(key);
  if (!numbers) return tl::unexpected(numbers.error());
  const BIGNUM* const e = numbers->e.get();
  if (::BN_num_bits(e) <= 16 || ::BN_is_odd(e) != 1)
    return not_sound("with an exponent that is even or below 65537");
  if (::BN_cmp(numbers->d.get(), numbers->n.get()) >= 0)
    return not_sound("whose private exponent is not below its modulus");
  const Context context(::BN_CTX_secure_new());
  if (context == nullptr) return cannot_calculate();
  constexpr auto* kStrangers = "whose numbers do not belong together";
  if (auto fit = require(factors_fit(*numbers, context.get()), kStrangers); !fit) return fit;
  for (const auto* factor : {&numbers->p, &numbers->q}) {
    if (auto fit = require(exponents_fit(*numbers, *factor, context.get()), kStrangers); !fit)
      return fit;
  }
  // Last, since it takes longest.
  for (const auto* factor : {&numbers->p, &numbers->q}) {
    if (auto prime = require(is_prime(*factor, context.get()), "with a factor that is no prime");
        !prime) {
      return prime;
    }
  }
  return {};
}

}  // namespace coffer::crypto
