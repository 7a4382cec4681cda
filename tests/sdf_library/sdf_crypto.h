// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/evp.h>

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "hsm/sdf_api.h"

// The algorithms of the tests' SDF device: SM4 by libgcrypt, SM2 and SM3 by OpenSSL. It shares no
// code with the product, so that the two check each other.
namespace coffer::tests::sdf {

using hsm::sdf::EccCipher;
using hsm::sdf::EccPublicKey;
using hsm::sdf::EccSignature;

using ConstBytes = std::span<const std::byte>;
using Block = std::array<std::byte, 16>;
using Digest = std::array<std::byte, 32>;
using Scalar = std::array<std::byte, 32>;

enum class Direction { kEncrypt, kDecrypt };

// Whole blocks; `iv` null for ECB, else CBC, and advanced. False: sizes.
bool sm4(Direction direction, ConstBytes key, Block* iv, ConstBytes in, std::span<std::byte> out);
// CBC-MAC from `iv`.
std::optional<Block> sm4_mac(ConstBytes key, const Block& iv, ConstBytes data);

// SM3, or HMAC over it when made with a key.
class Sm3 {
 public:
  Sm3();
  explicit Sm3(ConstBytes hmac_key);
  void update(ConstBytes data);
  Digest finish();

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const { ::EVP_MD_CTX_free(context); }
    void operator()(EVP_MAC_CTX* context) const { ::EVP_MAC_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> hash_;
  std::unique_ptr<EVP_MAC_CTX, Free> mac_;
};

std::optional<Scalar> sm2_draw();
std::optional<EccPublicKey> sm2_public_of(const Scalar& secret);
std::optional<EccSignature> sm2_sign(const Scalar& secret, ConstBytes digest);
bool sm2_verify(const EccPublicKey& key, ConstBytes digest, const EccSignature& signature);
bool sm2_encrypt(const EccPublicKey& key, ConstBytes plain, EccCipher& out);
std::optional<std::vector<std::byte>> sm2_decrypt(const Scalar& secret, const EccCipher& cipher);
// ZA of GM/T 0003.2 section 5.5: what SM3 of a message to be signed begins with.
Digest sm2_za(const EccPublicKey& key, ConstBytes id);

}  // namespace coffer::tests::sdf
