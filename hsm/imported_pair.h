// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/keyring/cmk_record.h"
#include "hsm/key_pair.h"

namespace coffer::hsm {

// The pair whose private half somebody brought, as PKCS #8 (docs/formats/private-key.md), for a key
// of `algorithm`, which is not a symmetric one. Whatever way it was spelled, the public half of one
// key is always the same bytes. Takes a second for RSA-4096, whose factors are tested.
//   kImportRefused  not that form, of another algorithm, size or curve, numbers out of their range,
//                   or halves that do not belong together. The message says which.
//   kNoMemory, kInternal
Result<KeyPair> imported_pair(keyring::KeyAlgorithm algorithm, const SecretBytes& pkcs8);

}  // namespace coffer::hsm
