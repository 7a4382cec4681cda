// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"

namespace coffer::crypto {

// PKCS #8 (RFC 5208, not encrypted, DER) as somebody else wrote it, for private keys that come from
// outside: RSA (RFC 8017 appendix A.1.2, of two primes) and EC (RFC 5915) on the curves that Coffer
// has, named by their OID. docs/formats/private-key.md.
enum class PrivateKeyKind : std::uint8_t { kRsa, kEcP256, kEcP384, kSm2 };

struct PrivateKeyInfo {
  PrivateKeyKind kind = PrivateKeyKind::kRsa;
  // The key without what can be left out: attributes, and of EC curve and public key inside it. For
  // the parse() of RsaPrivateKey, EcPrivateKey or Sm2PrivateKey, which finds out whether the
  // numbers are a key.
  SecretBytes der;
  // Of EC, the public point as it stood there, in a form of SEC 1 section 2.3.3; empty if it did
  // not. Nobody has looked whether it is the key's.
  Bytes point;
};

inline constexpr std::size_t kPrivateKeyInfoBytesMax = 4096;

// Reads `der` to its last byte. Looks at form alone, not at numbers.
//   kInvalidArgs  longer than kPrivateKeyInfoBytesMax, not that form, another version (RFC 5958),
//                 algorithm or curve, more than two primes, or a number of EC of another length
//                 than its curve's.
//   kNoMemory     as SecretBytes.
Result<PrivateKeyInfo> read_private_key_info(ByteView der);

// Whether `point`, in the form of PrivateKeyInfo, is the one that `uncompressed` has whole (0x04,
// x, y).
bool is_same_point(ByteView point, ByteView uncompressed);

}  // namespace coffer::crypto
