// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/sha384.h"

#include <openssl/evp.h>

#include <new>

#include "core/crypto/openssl_error.h"

namespace coffer::crypto {

Sha384Digest sha384(ByteView bytes) {
  Sha384Digest digest{};
  const int done = ::EVP_Digest(bytes.data(), bytes.size(), out_uchars(digest), nullptr,
                                ::EVP_sha384(), nullptr);
  if (done != 1) throw std::bad_alloc();
  return digest;
}

}  // namespace coffer::crypto
