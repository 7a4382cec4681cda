// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/ec_key.h"

#include <openssl/core_names.h>

#include <array>

#include "core/crypto/openssl_error.h"

namespace coffer::crypto {

Result<EcKey> parse_ec_key(ByteView pem_or_der, const char* type, KeyHalf half) {
  auto key = parse_pkey(pem_or_der, type, half);
  if (!key) return tl::unexpected(key.error());
  // Parameters that are spelled out can be made to look like a curve and be another
  // (CVE-2020-0601).
  int spelled_out = 0;
  std::array<char, 64> group{};
  std::size_t group_size = 0;
  const bool named =
      ::EVP_PKEY_get_int_param(key->get(), OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS,
                               &spelled_out) == 1 &&
      spelled_out == 0 &&
      ::EVP_PKEY_get_utf8_string_param(key->get(), OSSL_PKEY_PARAM_GROUP_NAME, group.data(),
                                       group.size(), &group_size) == 1;
  if (!named)
    return openssl_failure(Reason::kInvalidArgs, std::string(type) + " key without a named curve");
  if (!is_consistent(key->get(), half))
    return openssl_failure(Reason::kInvalidArgs, std::string(type) + " key that is none");
  return EcKey{std::move(*key), std::string(group.data(), group_size)};
}

}  // namespace coffer::crypto
