// SPDX-License-Identifier: Apache-2.0
#include "hsm/gcm_cipher.h"

#include "core/crypto/aead.h"
#include "core/crypto/sm4.h"

namespace coffer::hsm {

using keyring::KeyAlgorithm;

Result<Ciphertext> gcm_encrypt(KeyAlgorithm algorithm, ByteView key, const EncryptJob& job) {
  const auto nonce = SecretBytes::random(crypto::kGcmNonceBytes);
  if (!nonce) return tl::unexpected(nonce.error());
  const crypto::GcmContext context{nonce->reveal(), job.aad};
  auto sealed = algorithm == KeyAlgorithm::kSm4 ? crypto::sm4_gcm_seal(key, context, job.plain)
                                                : crypto::aes_gcm_seal(key, context, job.plain);
  if (!sealed) return tl::unexpected(sealed.error());
  Ciphertext made;
  made.nonce.assign(nonce->reveal().begin(), nonce->reveal().end());
  made.tag.assign(sealed->end() - crypto::kGcmTagBytes, sealed->end());
  sealed->resize(sealed->size() - crypto::kGcmTagBytes);
  made.bytes = std::move(*sealed);
  return made;
}

Result<SecretBytes> gcm_decrypt(KeyAlgorithm algorithm, ByteView key, const DecryptJob& job) {
  const Bytes sealed = ByteWriter().raw(job.bytes).raw(job.tag).take();
  const crypto::GcmContext context{job.nonce, job.aad};
  return algorithm == KeyAlgorithm::kSm4 ? crypto::sm4_gcm_open(key, context, sealed)
                                         : crypto::aes_gcm_open(key, context, sealed);
}

}  // namespace coffer::hsm
