// SPDX-License-Identifier: Apache-2.0
// The tests' own SDF library against published vectors: what the maker is tested with must be right
// itself.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "core/base/encoding.h"
#include "hsm/sdf_api.h"
#include "tests/support/sdf_folder.h"

namespace coffer::tests {
namespace {

namespace api = hsm::sdf;

SdfFolder& folder() {
  static SdfFolder folder;
  return folder;
}

Bytes hex(std::string_view digits) {
  return *from_hex(digits);
}

class SdfLibraryTest : public testing::Test {
 protected:
  SdfLibraryTest() {
    folder();
    library_ = ::dlopen(sdf_library_path().c_str(), RTLD_NOW | RTLD_LOCAL);
    EXPECT_EQ(call<decltype(SDF_OpenDevice)>("SDF_OpenDevice", &device_), 0);
    EXPECT_EQ(call<decltype(SDF_OpenSession)>("SDF_OpenSession", device_, &session_), 0);
  }
  ~SdfLibraryTest() override {
    folder().faults().clear();
    EXPECT_EQ(call<decltype(SDF_CloseSession)>("SDF_CloseSession", session_), 0);
    EXPECT_EQ(call<decltype(SDF_CloseDevice)>("SDF_CloseDevice", device_), 0);
  }

  template <class Function, class... Arguments>
  int call(const char* name, Arguments... arguments) {
    return reinterpret_cast<Function*>(::dlsym(library_, name))(arguments...);
  }
  unsigned error(int returned) { return static_cast<unsigned>(returned); }

  void* import_key(const Bytes& bytes) {
    void* key = nullptr;
    EXPECT_EQ(call<decltype(SDF_ImportKey)>("SDF_ImportKey", session_, bytes.data(),
                                            static_cast<unsigned>(bytes.size()), &key),
              0);
    return key;
  }
  Bytes encrypt(void* key, unsigned algorithm, Bytes iv, const Bytes& plain) {
    Bytes out(plain.size());
    unsigned size = 0;
    EXPECT_EQ(call<decltype(SDF_Encrypt)>("SDF_Encrypt", session_, key, algorithm, iv.data(),
                                          plain.data(), static_cast<unsigned>(plain.size()),
                                          out.data(), &size),
              0);
    EXPECT_EQ(size, out.size());
    return out;
  }

  void* library_ = nullptr;
  void* device_ = nullptr;
  void* session_ = nullptr;
};

// GM/T 0002-2012 annex A.1, and CBC from draft-ribose-cfrg-sm4.
TEST_F(SdfLibraryTest, Sm4IsSm4) {
  const Bytes key = hex("0123456789abcdeffedcba9876543210");
  void* const handle = import_key(key);
  EXPECT_EQ(to_hex(encrypt(handle, api::kSm4Ecb, {}, key)), "681edf34d206965e86b3e94f536e4246");
  const Bytes two = hex("0123456789abcdeffedcba98765432100123456789abcdeffedcba9876543210");
  const Bytes text = encrypt(handle, api::kSm4Cbc, key, two);
  EXPECT_EQ(to_hex(text), "2677f46b09c122cc975533105bd4a22af6125f7275ce552c3a2bbcf533de8a3b");
  Bytes iv = key;
  Bytes back(text.size());
  unsigned size = 0;
  ASSERT_EQ(call<decltype(SDF_Decrypt)>("SDF_Decrypt", session_, handle, api::kSm4Cbc, iv.data(),
                                        text.data(), static_cast<unsigned>(text.size()),
                                        back.data(), &size),
            0);
  EXPECT_EQ(back, two);
  EXPECT_EQ(iv, Bytes(text.end() - 16, text.end())) << "the IV comes back advanced";
  // The MAC is the last block of CBC.
  Bytes mac(16);
  iv = key;
  ASSERT_EQ(call<decltype(SDF_CalculateMAC)>("SDF_CalculateMAC", session_, handle, api::kSm4Mac,
                                             iv.data(), two.data(),
                                             static_cast<unsigned>(two.size()), mac.data(), &size),
            0);
  EXPECT_EQ(mac, Bytes(text.end() - 16, text.end()));
}

// GM/T 0004-2012 annex A.1; GM/T 0042-2015 annex D.3.
TEST_F(SdfLibraryTest, Sm3AndHmacAreWhatTheStandardsSay) {
  Bytes digest(32);
  unsigned size = 0;
  const Bytes abc = hex("616263");
  const api::EccPublicKey* no_key = nullptr;
  const std::byte* no_id = nullptr;
  ASSERT_EQ(call<decltype(SDF_HashInit)>("SDF_HashInit", session_, api::kSm3, no_key, no_id, 0U),
            0);
  ASSERT_EQ(call<decltype(SDF_HashUpdate)>("SDF_HashUpdate", session_, abc.data(), 3U), 0);
  ASSERT_EQ(call<decltype(SDF_HashFinal)>("SDF_HashFinal", session_, digest.data(), &size), 0);
  EXPECT_EQ(to_hex(digest), "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0");

  void* const key = import_key(hex("4a656665"));
  const auto text = as_bytes("what do ya want for nothing?");
  ASSERT_EQ(call<decltype(SDF_HMACInit)>("SDF_HMACInit", session_, key, api::kSm3), 0);
  ASSERT_EQ(call<decltype(SDF_HMACUpdate)>("SDF_HMACUpdate", session_, text.data(),
                                           static_cast<unsigned>(text.size())),
            0);
  ASSERT_EQ(call<decltype(SDF_HMACFinal)>("SDF_HMACFinal", session_, digest.data(), &size), 0);
  EXPECT_EQ(to_hex(digest), "2e87f1d16862e6d964b50a5200bf2b10b764faa9680a296a2405f24bec39f882");
  EXPECT_EQ(error(call<decltype(SDF_HMACFinal)>("SDF_HMACFinal", session_, digest.data(), &size)),
            api::kStepErr);
}

template <std::size_t N>
void put_number(std::array<std::byte, N>& field, std::string_view digits) {
  const Bytes bytes = hex(digits);
  std::ranges::copy(bytes, field.end() - static_cast<std::ptrdiff_t>(bytes.size()));
}

// GM/T 0003.5-2012 annex A.2: the key pair, the digest with its ZA, a signature by it.
TEST_F(SdfLibraryTest, Sm2SignsAsTheStandardSays) {
  folder().put("sign-3", hex("3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8"));
  api::EccPublicKey key{};
  ASSERT_EQ(call<decltype(SDF_ExportSignPublicKey_ECC)>("SDF_ExportSignPublicKey_ECC", session_, 3U,
                                                        &key),
            0);
  EXPECT_EQ(to_hex(ByteView(key.x).last(32)),
            "09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020");
  EXPECT_EQ(to_hex(ByteView(key.y).last(32)),
            "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13");

  const auto id = as_bytes("1234567812345678");
  const auto message = as_bytes("message digest");
  Bytes e(32);
  unsigned size = 0;
  ASSERT_EQ(call<decltype(SDF_HashInit)>("SDF_HashInit", session_, api::kSm3, &key, id.data(), 16U),
            0);
  ASSERT_EQ(call<decltype(SDF_HashUpdate)>("SDF_HashUpdate", session_, message.data(), 14U), 0);
  ASSERT_EQ(call<decltype(SDF_HashFinal)>("SDF_HashFinal", session_, e.data(), &size), 0);
  EXPECT_EQ(to_hex(e), "f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640");

  api::EccSignature signature{};
  put_number(signature.r, "f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3");
  put_number(signature.s, "b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa");
  const auto verify = [&] {
    return error(call<decltype(SDF_ExternalVerify_ECC)>(
        "SDF_ExternalVerify_ECC", session_, api::kSm2Sign, &key, e.data(), 32U, &signature));
  };
  EXPECT_EQ(verify(), api::kOk);
  signature.s.back() ^= std::byte{1};
  EXPECT_EQ(verify(), api::kVerifyErr);
  ASSERT_EQ(call<decltype(SDF_InternalSign_ECC)>("SDF_InternalSign_ECC", session_, 3U, e.data(),
                                                 32U, &signature),
            0);
  EXPECT_EQ(verify(), api::kOk);
}

// Key and ciphertext of Tongsuo's test data, evppkey_sm2.txt (Apache-2.0).
TEST_F(SdfLibraryTest, Sm2DecryptsWhatOthersEncrypted) {
  folder().put("enc-7", hex("d09156733017bdad809fd9bbd8c693f60230593169b6f94aaf1c8ee138cc99b5"));
  api::EccCipher cipher{};
  put_number(cipher.x, "70dad60cda7c30d64cf4f278a849003581223f5324bfec9bb329229bffad21a6");
  put_number(cipher.y, "18afab2b35459d2643243b242be4ea80c6fa5071d2d847340cc57eb9309e5d");
  put_number(cipher.hash, "0b772e4db664b2601e3b85e39c4aa8c2c1910308be13b331e009c5a9258c29fd");
  std::ranges::copy(hex("6d588be9260a94da18e0e6"), cipher.text.begin());
  cipher.length = 11;
  Bytes plain(64);
  unsigned size = 0;
  const auto decrypt = [&] {
    return error(call<decltype(SDF_InternalDecrypt_ECC)>(
        "SDF_InternalDecrypt_ECC", session_, 7U, api::kSm2Encrypt, &cipher, plain.data(), &size));
  };
  ASSERT_EQ(decrypt(), api::kOk);
  EXPECT_EQ(as_text(ByteView(plain).first(size)), "Hello World");

  api::EccPublicKey key{};
  ASSERT_EQ(
      call<decltype(SDF_ExportEncPublicKey_ECC)>("SDF_ExportEncPublicKey_ECC", session_, 7U, &key),
      0);
  const auto text = as_bytes("a key of SM4, 16");
  ASSERT_EQ(
      call<decltype(SDF_ExternalEncrypt_ECC)>("SDF_ExternalEncrypt_ECC", session_, api::kSm2Encrypt,
                                              &key, text.data(), 16U, &cipher),
      0);
  ASSERT_EQ(decrypt(), api::kOk);
  EXPECT_EQ(as_text(ByteView(plain).first(size)), "a key of SM4, 16");
  cipher.hash[0] ^= std::byte{1};
  EXPECT_EQ(decrypt(), api::kSkOpErr);
}

TEST_F(SdfLibraryTest, APrivateKeyWithAPasswordNeedsTheRightToUseIt) {
  folder().put("sign-4", hex("3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8"));
  folder().put("password-4", as_bytes("open sesame"));
  const Bytes digest(32, std::byte{1});
  api::EccSignature signature{};
  const auto sign = [&] {
    return error(call<decltype(SDF_InternalSign_ECC)>("SDF_InternalSign_ECC", session_, 4U,
                                                      digest.data(), 32U, &signature));
  };
  const auto ask = [&](std::string_view password) {
    const auto bytes = as_bytes(password);
    return error(call<decltype(SDF_GetPrivateKeyAccessRight)>("SDF_GetPrivateKeyAccessRight",
                                                              session_, 4U, bytes.data(),
                                                              static_cast<unsigned>(bytes.size())));
  };
  EXPECT_EQ(sign(), api::kPrkRErr);
  EXPECT_EQ(ask("open barley"), api::kPrkRErr);
  EXPECT_EQ(ask("open sesame"), api::kOk);
  EXPECT_EQ(sign(), api::kOk);
  EXPECT_EQ(call<decltype(SDF_ReleasePrivateKeyAccessRight)>("SDF_ReleasePrivateKeyAccessRight",
                                                             session_, 4U),
            0);
  EXPECT_EQ(sign(), api::kPrkRErr);
}

TEST_F(SdfLibraryTest, AKeyUnderAKekComesBackAndIsOfItsOwnSession) {
  const unsigned kek = folder().add_kek();
  Bytes wrapped(64);
  unsigned size = 0;
  void* key = nullptr;
  ASSERT_EQ(call<decltype(SDF_GenerateKeyWithKEK)>("SDF_GenerateKeyWithKEK", session_, 128U,
                                                   api::kSm4Ecb, kek, wrapped.data(), &size, &key),
            0);
  void* again = nullptr;
  ASSERT_EQ(call<decltype(SDF_ImportKeyWithKEK)>("SDF_ImportKeyWithKEK", session_, api::kSm4Ecb,
                                                 kek, wrapped.data(), size, &again),
            0);
  const Bytes block(16, std::byte{5});
  EXPECT_EQ(encrypt(key, api::kSm4Ecb, {}, block), encrypt(again, api::kSm4Ecb, {}, block));
  EXPECT_EQ(call<decltype(SDF_DestroyKey)>("SDF_DestroyKey", session_, again), 0);

  void* other = nullptr;
  ASSERT_EQ(call<decltype(SDF_OpenSession)>("SDF_OpenSession", device_, &other), 0);
  EXPECT_EQ(error(call<decltype(SDF_DestroyKey)>("SDF_DestroyKey", other, key)), api::kKeyNotExist);
  EXPECT_EQ(call<decltype(SDF_CloseSession)>("SDF_CloseSession", other), 0);
  EXPECT_EQ(error(call<decltype(SDF_CloseSession)>("SDF_CloseSession", other)), api::kInArgErr);
}

}  // namespace
}  // namespace coffer::tests
