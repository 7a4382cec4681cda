// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/crypto/pkey.h"

// Private to ec.cc and sm2.cc: keys on a curve.
namespace coffer::crypto {

struct EcKey {
  Pkey pkey;
  std::string group;  // OpenSSL's name of the curve.
};

// As parse_pkey(), and checked: the curve is given by name, the point lies on it, a private key is
// in range and belongs to its point.   kInvalidArgs: not so.
Result<EcKey> parse_ec_key(ByteView pem_or_der, const char* type, KeyHalf half);

}  // namespace coffer::crypto
