// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

// The part of the SDF interface that Coffer uses: "Interface specifications of cryptography device
// application", GM/T 0018-2012; functions that only the edition GM/T 0018-2023 has are named. The
// functions are declared so that a library that is loaded at run time, and the tests' own library,
// are held to one form: nothing links against them.
//
// Common to all: a handle is opaque, a function returns 0 or an error code (SDR_…, section 7 and
// annex A), lengths are in bytes, and no length tells a function how large an output buffer is: the
// caller makes it as large as the standard says, and reads the length that comes back with
// distrust. Nothing is written through a pointer to input, but for an IV, which SDF_Encrypt() and
// SDF_Decrypt() advance.
namespace coffer::hsm::sdf {

using Handle = void*;
using Length = unsigned int;  // SGD_UINT32

inline constexpr std::size_t kEccFieldBytes = 64;  // ECCref_MAX_LEN

// DEVICEINFO. Texts are padded, by NUL or blanks.
struct DeviceInfo {
  std::array<char, 40> issuer;
  std::array<char, 16> name;
  std::array<char, 16> serial;  // Date of making (8), batch (3), number (5).
  std::uint32_t version;
  std::uint32_t standard_version;
  std::array<std::uint32_t, 2> asymmetric;  // Which algorithms; which key lengths.
  std::uint32_t symmetric;
  std::uint32_t hash;
  std::uint32_t buffer_bytes;
};
static_assert(sizeof(DeviceInfo) == 100);

// ECCrefPublicKey. A number of 256 bits stands, big-endian, at the end of its field.
struct EccPublicKey {
  std::uint32_t bits;
  std::array<std::byte, kEccFieldBytes> x;
  std::array<std::byte, kEccFieldBytes> y;
};
static_assert(sizeof(EccPublicKey) == 132);

// ECCrefPrivateKey
struct EccPrivateKey {
  std::uint32_t bits;
  std::array<std::byte, kEccFieldBytes> k;
};

// ECCSignature
struct EccSignature {
  std::array<std::byte, kEccFieldBytes> r;
  std::array<std::byte, kEccFieldBytes> s;
};

// ECCCipher: C1 (x, y), C3 (hash), C2. In the standard the text is an array of one that goes on;
// here it has room for the longest that Coffer hands over.
inline constexpr std::size_t kEccTextBytesMax = 4096;
struct EccCipher {
  std::array<std::byte, kEccFieldBytes> x;
  std::array<std::byte, kEccFieldBytes> y;
  std::array<std::byte, 32> hash;
  std::uint32_t length;
  std::array<std::byte, kEccTextBytesMax> text;
};
static_assert(offsetof(EccCipher, text) == 164);

// Algorithms (GM/T 0006).
inline constexpr unsigned int kSm3 = 0x00000001;         // SGD_SM3
inline constexpr unsigned int kSm4Ecb = 0x00000401;      // SGD_SM4_ECB
inline constexpr unsigned int kSm4Cbc = 0x00000402;      // SGD_SM4_CBC
inline constexpr unsigned int kSm4Mac = 0x00000410;      // SGD_SM4_MAC
inline constexpr unsigned int kSm2Sign = 0x00020200;     // SGD_SM2_1
inline constexpr unsigned int kSm2Encrypt = 0x00020800;  // SGD_SM2_3

// Error codes: SDR_BASE and a number.
enum Return : std::uint32_t {
  kOk = 0,
  kUnknownErr = 0x01000001,
  kNotSupport = 0x01000002,
  kCommFail = 0x01000003,
  kHardFail = 0x01000004,
  kOpenDevice = 0x01000005,
  kOpenSession = 0x01000006,
  kParDeny = 0x01000007,
  kKeyNotExist = 0x01000008,
  kAlgNotSupport = 0x01000009,
  kAlgModNotSupport = 0x0100000A,
  kPkOpErr = 0x0100000B,
  kSkOpErr = 0x0100000C,
  kSignErr = 0x0100000D,
  kVerifyErr = 0x0100000E,
  kSymOpErr = 0x0100000F,
  kStepErr = 0x01000010,
  kFileSizeErr = 0x01000011,
  kFileNoExist = 0x01000012,
  kFileOfsErr = 0x01000013,
  kKeyTypeErr = 0x01000014,
  kKeyErr = 0x01000015,
  kEncDataErr = 0x01000016,
  kRandErr = 0x01000017,
  kPrkRErr = 0x01000018,
  kMacErr = 0x01000019,
  kFileExists = 0x0100001A,
  kFileWErr = 0x0100001B,
  kNoBuffer = 0x0100001C,
  kInArgErr = 0x0100001D,
  kOutArgErr = 0x0100001E,
  kUserIdErr = 0x0100001F,  // GM/T 0018-2023
};

}  // namespace coffer::hsm::sdf

// NOLINTBEGIN(readability-identifier-naming): names of the standard.
extern "C" {

// Device management, section 6.2.
int SDF_OpenDevice(void** device);
int SDF_CloseDevice(void* device);
int SDF_OpenSession(void* device, void** session);
int SDF_CloseSession(void* session);
int SDF_GetDeviceInfo(void* session, coffer::hsm::sdf::DeviceInfo* info);
int SDF_GenerateRandom(void* session, unsigned int size, std::byte* random);
int SDF_GetPrivateKeyAccessRight(void* session, unsigned int index, const std::byte* password,
                                 unsigned int password_size);
int SDF_ReleasePrivateKeyAccessRight(void* session, unsigned int index);

// Keys, section 6.3. Internal key pairs and key encryption keys have an index from 1; how they come
// into the device is its maker's affair. Session keys have a handle, valid in their session.
int SDF_ExportSignPublicKey_ECC(void* session, unsigned int index,
                                coffer::hsm::sdf::EccPublicKey* key);
int SDF_ExportEncPublicKey_ECC(void* session, unsigned int index,
                               coffer::hsm::sdf::EccPublicKey* key);
int SDF_GenerateKeyPair_ECC(void* session, unsigned int algorithm, unsigned int bits,
                            coffer::hsm::sdf::EccPublicKey* public_key,
                            coffer::hsm::sdf::EccPrivateKey* private_key);
int SDF_GenerateKeyWithKEK(void* session, unsigned int bits, unsigned int algorithm,
                           unsigned int kek, std::byte* wrapped, unsigned int* wrapped_size,
                           void** key);
int SDF_ImportKeyWithKEK(void* session, unsigned int algorithm, unsigned int kek,
                         const std::byte* wrapped, unsigned int wrapped_size, void** key);
int SDF_ImportKey(void* session, const std::byte* bytes, unsigned int size, void** key);
int SDF_DestroyKey(void* session, void* key);

// Asymmetric operations, section 6.4. What is signed is the digest: SM3 over ZA and the message.
int SDF_InternalSign_ECC(void* session, unsigned int index, const std::byte* digest,
                         unsigned int digest_size, coffer::hsm::sdf::EccSignature* signature);
int SDF_ExternalVerify_ECC(void* session, unsigned int algorithm,
                           const coffer::hsm::sdf::EccPublicKey* key, const std::byte* digest,
                           unsigned int digest_size,
                           const coffer::hsm::sdf::EccSignature* signature);
int SDF_ExternalEncrypt_ECC(void* session, unsigned int algorithm,
                            const coffer::hsm::sdf::EccPublicKey* key, const std::byte* plain,
                            unsigned int plain_size, coffer::hsm::sdf::EccCipher* cipher);
int SDF_InternalDecrypt_ECC(void* session, unsigned int index, unsigned int algorithm,
                            const coffer::hsm::sdf::EccCipher* cipher, std::byte* plain,
                            unsigned int* plain_size);

// Symmetric operations, section 6.5: whole blocks, nothing is padded. The IV comes back advanced.
int SDF_Encrypt(void* session, void* key, unsigned int algorithm, std::byte* iv,
                const std::byte* plain, unsigned int plain_size, std::byte* out,
                unsigned int* out_size);
int SDF_Decrypt(void* session, void* key, unsigned int algorithm, std::byte* iv,
                const std::byte* text, unsigned int text_size, std::byte* out,
                unsigned int* out_size);
int SDF_CalculateMAC(void* session, void* key, unsigned int algorithm, std::byte* iv,
                     const std::byte* data, unsigned int size, std::byte* mac,
                     unsigned int* mac_size);

// Hashes, section 6.6. With an id, SM3 begins with the signer's ZA (GM/T 0003.2 section 5.5).
int SDF_HashInit(void* session, unsigned int algorithm, const coffer::hsm::sdf::EccPublicKey* key,
                 const std::byte* id, unsigned int id_size);
int SDF_HashUpdate(void* session, const std::byte* data, unsigned int size);
int SDF_HashFinal(void* session, std::byte* hash, unsigned int* hash_size);
// GM/T 0018-2023
int SDF_HMACInit(void* session, void* key, unsigned int algorithm);
int SDF_HMACUpdate(void* session, const std::byte* data, unsigned int size);
int SDF_HMACFinal(void* session, std::byte* mac, unsigned int* mac_size);
}
// NOLINTEND(readability-identifier-naming)
