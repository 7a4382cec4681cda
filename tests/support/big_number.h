// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/bn.h>

#include <cstdint>
#include <utility>

#include "core/base/bytes.h"
#include "core/base/unique_fd.h"

namespace coffer::tests {

// Arithmetic with the numbers of a test's keys, which are not negative: nothing is wiped.
class BigNumber {
 public:
  explicit BigNumber(ByteView big_endian)
      : number_(::BN_bin2bn(reinterpret_cast<const unsigned char*>(big_endian.data()),
                            static_cast<int>(big_endian.size()), nullptr)) {}
  explicit BigNumber(std::uint64_t value) : BigNumber() { BN_set_word(number_.get(), value); }

  // Big-endian, as long as it has to be.
  Bytes bytes() const {
    Bytes out(static_cast<std::size_t>(BN_num_bytes(number_.get())));
    ::BN_bn2bin(number_.get(), reinterpret_cast<unsigned char*>(out.data()));
    return out;
  }
  bool is_prime() const { return ::BN_check_prime(number_.get(), context().get(), nullptr) == 1; }

  friend BigNumber operator+(const BigNumber& a, const BigNumber& b) {
    BigNumber out;
    ::BN_add(out.number_.get(), a.number_.get(), b.number_.get());
    return out;
  }
  friend BigNumber operator-(const BigNumber& a, const BigNumber& b) {
    BigNumber out;
    ::BN_sub(out.number_.get(), a.number_.get(), b.number_.get());
    return out;
  }
  friend BigNumber operator*(const BigNumber& a, const BigNumber& b) {
    BigNumber out;
    ::BN_mul(out.number_.get(), a.number_.get(), b.number_.get(), context().get());
    return out;
  }
  friend BigNumber operator/(const BigNumber& a, const BigNumber& b) {
    BigNumber out;
    ::BN_div(out.number_.get(), nullptr, a.number_.get(), b.number_.get(), context().get());
    return out;
  }
  friend BigNumber operator%(const BigNumber& a, const BigNumber& b) {
    BigNumber out;
    ::BN_nnmod(out.number_.get(), a.number_.get(), b.number_.get(), context().get());
    return out;
  }
  // Zero where there is none.
  friend BigNumber inverse(const BigNumber& a, const BigNumber& modulus) {
    BigNumber out;
    if (::BN_mod_inverse(out.number_.get(), a.number_.get(), modulus.number_.get(),
                         context().get()) == nullptr) {
      return BigNumber(0);
    }
    return out;
  }
  friend BigNumber common_divisor(const BigNumber& a, const BigNumber& b) {
    BigNumber out;
    ::BN_gcd(out.number_.get(), a.number_.get(), b.number_.get(), context().get());
    return out;
  }
  friend bool operator==(const BigNumber& a, const BigNumber& b) {
    return ::BN_cmp(a.number_.get(), b.number_.get()) == 0;
  }
  friend bool operator<(const BigNumber& a, const BigNumber& b) {
    return ::BN_cmp(a.number_.get(), b.number_.get()) < 0;
  }

 private:
  using Context = CHandle<BN_CTX, ::BN_CTX_free>;
  BigNumber() : number_(::BN_new()) {}
  static Context context() { return Context(::BN_CTX_new()); }

  CHandle<BIGNUM, ::BN_free> number_;
};

}  // namespace coffer::tests
