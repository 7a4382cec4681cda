// SPDX-License-Identifier: Apache-2.0
#include "tests/sdf_library/sdf_crypto.h"

#include <gcrypt.h>
#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/params.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace coffer::tests::sdf {
namespace {

constexpr std::size_t kNumberBytes = 32;
constexpr std::size_t kFieldOffset = hsm::sdf::kEccFieldBytes - kNumberBytes;

const unsigned char* uchars(ConstBytes bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}
unsigned char* uchars(std::span<std::byte> bytes) {
  return reinterpret_cast<unsigned char*>(bytes.data());
}

// A device that cannot do its own mathematics is broken: the test ends.
void must(bool good) {
  if (!good) std::abort();
}

template <auto Function>
struct Free {
  template <class T>
  void operator()(T* object) const {
    Function(object);
  }
};
using Number = std::unique_ptr<BIGNUM, Free<::BN_clear_free>>;
using Group = std::unique_ptr<EC_GROUP, Free<::EC_GROUP_free>>;
using Point = std::unique_ptr<EC_POINT, Free<::EC_POINT_free>>;
using Key = std::unique_ptr<EVP_PKEY, Free<::EVP_PKEY_free>>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, Free<::EVP_PKEY_CTX_free>>;

Number number(ConstBytes big_endian) {
  Number out(::BN_bin2bn(uchars(big_endian), static_cast<int>(big_endian.size()), nullptr));
  must(out != nullptr);
  return out;
}

using Field = std::array<std::byte, hsm::sdf::kEccFieldBytes>;
void store(const BIGNUM* value, Field& field) {
  must(::BN_bn2binpad(value, uchars(std::span<std::byte>(field)), static_cast<int>(field.size())) ==
       static_cast<int>(field.size()));
}

// 04 || x || y; nothing if the key's form is wrong.
std::optional<std::vector<std::byte>> uncompressed(const EccPublicKey& key) {
  const auto low = [](const Field& field) {
    return std::ranges::all_of(field.begin(), field.begin() + kFieldOffset,
                               [](std::byte b) { return b == std::byte{0}; });
  };
  if (key.bits != 256 || !low(key.x) || !low(key.y)) return std::nullopt;
  std::vector<std::byte> out{std::byte{4}};
  out.insert(out.end(), key.x.begin() + kFieldOffset, key.x.end());
  out.insert(out.end(), key.y.begin() + kFieldOffset, key.y.end());
  return out;
}

Key import(const EccPublicKey& key, const Scalar* secret) {
  auto point = uncompressed(key);
  if (!point) return nullptr;
  std::array<char, 4> group{"SM2"};
  // Little-endian, as the machine has it.
  Scalar reversed{};
  std::vector<OSSL_PARAM> params{
      ::OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group.data(), 0),
      ::OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point->data(), point->size())};
  if (secret != nullptr) {
    std::reverse_copy(secret->begin(), secret->end(), reversed.begin());
    params.push_back(::OSSL_PARAM_construct_BN(
        OSSL_PKEY_PARAM_PRIV_KEY, uchars(std::span<std::byte>(reversed)), reversed.size()));
  }
  params.push_back(::OSSL_PARAM_construct_end());
  const KeyContext context(::EVP_PKEY_CTX_new_from_name(nullptr, "SM2", nullptr));
  EVP_PKEY* out = nullptr;
  must(::EVP_PKEY_fromdata_init(context.get()) == 1);
  const int selection = secret != nullptr ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY;
  if (::EVP_PKEY_fromdata(context.get(), &out, selection, params.data()) != 1) return nullptr;
  return Key(out);
}

Key pair_of(const Scalar& secret) {
  const auto key = sm2_public_of(secret);
  return key ? import(*key, &secret) : nullptr;
}

std::vector<std::byte> der_signature(const EccSignature& signature) {
  ECDSA_SIG* const parts = ::ECDSA_SIG_new();
  must(::ECDSA_SIG_set0(parts, number(signature.r).release(), number(signature.s).release()) == 1);
  unsigned char* bytes = nullptr;
  const int size = ::i2d_ECDSA_SIG(parts, &bytes);
  ::ECDSA_SIG_free(parts);
  must(size > 0);
  const auto all = std::as_bytes(std::span(bytes, static_cast<std::size_t>(size)));
  std::vector<std::byte> out(all.begin(), all.end());
  ::OPENSSL_free(bytes);
  return out;
}

void put_length(std::vector<std::byte>& out, std::size_t length) {
  if (length < 0x80) {
    out.push_back(static_cast<std::byte>(length));
    return;
  }
  const bool two = length > 0xFF;
  out.push_back(two ? std::byte{0x82} : std::byte{0x81});
  if (two) out.push_back(static_cast<std::byte>(length >> 8));
  out.push_back(static_cast<std::byte>(length));
}

void put(std::vector<std::byte>& out, unsigned tag, ConstBytes value) {
  out.push_back(static_cast<std::byte>(tag));
  put_length(out, value.size());
  out.insert(out.end(), value.begin(), value.end());
}

void put_integer(std::vector<std::byte>& out, ConstBytes value) {
  while (value.size() > 1 && value.front() == std::byte{0}) value = value.subspan(1);
  std::vector<std::byte> whole;
  if ((value.front() & std::byte{0x80}) != std::byte{0}) whole.push_back(std::byte{0});
  whole.insert(whole.end(), value.begin(), value.end());
  put(out, V_ASN1_INTEGER, whole);
}

// SEQUENCE { x, y INTEGER; C3, C2 OCTET STRING } of GM/T 0009, which OpenSSL speaks.
std::vector<std::byte> der_cipher(const EccCipher& cipher) {
  std::vector<std::byte> inner;
  put_integer(inner, cipher.x);
  put_integer(inner, cipher.y);
  put(inner, V_ASN1_OCTET_STRING, cipher.hash);
  put(inner, V_ASN1_OCTET_STRING, ConstBytes(cipher.text).first(cipher.length));
  std::vector<std::byte> out;
  put(out, V_ASN1_SEQUENCE | V_ASN1_CONSTRUCTED, inner);
  return out;
}

// Takes DER values off the front of what OpenSSL made, which is well-formed.
class Der {
 public:
  explicit Der(ConstBytes rest) : rest_(rest) {}
  ConstBytes value() {
    const unsigned char* at = uchars(rest_);
    long length = 0;
    int tag = 0;
    int tag_class = 0;
    const int kind =
        ::ASN1_get_object(&at, &length, &tag, &tag_class, static_cast<long>(rest_.size()));
    must((kind & 0x80) == 0);
    const auto head = static_cast<std::size_t>(at - uchars(rest_));
    const auto size = static_cast<std::size_t>(length);
    const ConstBytes out = rest_.subspan(head, size);
    rest_ = rest_.subspan(head + size);
    return out;
  }

 private:
  ConstBytes rest_;
};

gcry_cipher_hd_t open_sm4(int mode, ConstBytes key) {
  static const bool kReady = [] {
    must(::gcry_check_version(nullptr) != nullptr);
    ::gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
    ::gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
    return true;
  }();
  gcry_cipher_hd_t cipher = nullptr;
  must(kReady && ::gcry_cipher_open(&cipher, GCRY_CIPHER_SM4, mode, 0) == 0);
  must(::gcry_cipher_setkey(cipher, key.data(), key.size()) == 0);
  return cipher;
}

}  // namespace

bool sm4(Direction direction, ConstBytes key, Block* iv, ConstBytes in, std::span<std::byte> out) {
  constexpr std::size_t kBlock = sizeof(Block);
  if (key.size() != kBlock || in.empty() || in.size() % kBlock != 0 || out.size() < in.size())
    return false;
  gcry_cipher_hd_t cipher =
      open_sm4(iv != nullptr ? GCRY_CIPHER_MODE_CBC : GCRY_CIPHER_MODE_ECB, key);
  if (iv != nullptr) must(::gcry_cipher_setiv(cipher, iv->data(), iv->size()) == 0);
  Block last{};
  std::ranges::copy(in.last(kBlock), last.begin());
  const auto act = direction == Direction::kEncrypt ? ::gcry_cipher_encrypt : ::gcry_cipher_decrypt;
  must(act(cipher, out.data(), in.size(), in.data(), in.size()) == 0);
  ::gcry_cipher_close(cipher);
  if (iv == nullptr) return true;
  if (direction == Direction::kEncrypt)
    std::ranges::copy(out.subspan(in.size() - kBlock, kBlock), iv->begin());
  else
    *iv = last;
  return true;
}

std::optional<Block> sm4_mac(ConstBytes key, const Block& iv, ConstBytes data) {
  std::vector<std::byte> out(data.size());
  Block chain = iv;
  if (!sm4(Direction::kEncrypt, key, &chain, data, out)) return std::nullopt;
  return chain;
}

Sm3::Sm3() : hash_(::EVP_MD_CTX_new()) {
  must(::EVP_DigestInit_ex(hash_.get(), ::EVP_sm3(), nullptr) == 1);
}

Sm3::Sm3(ConstBytes hmac_key) {
  EVP_MAC* const hmac = ::EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  mac_.reset(::EVP_MAC_CTX_new(hmac));
  ::EVP_MAC_free(hmac);
  std::array<char, 4> name{"SM3"};
  const std::array<OSSL_PARAM, 2> params{
      ::OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name.data(), 0),
      ::OSSL_PARAM_construct_end()};
  must(::EVP_MAC_init(mac_.get(), uchars(hmac_key), hmac_key.size(), params.data()) == 1);
}

void Sm3::update(ConstBytes data) {
  if (mac_)
    must(::EVP_MAC_update(mac_.get(), uchars(data), data.size()) == 1);
  else
    must(::EVP_DigestUpdate(hash_.get(), data.data(), data.size()) == 1);
}

Digest Sm3::finish() {
  Digest out{};
  auto* const bytes = uchars(std::span<std::byte>(out));
  if (mac_) {
    std::size_t size = 0;
    must(::EVP_MAC_final(mac_.get(), bytes, &size, out.size()) == 1 && size == out.size());
  } else {
    unsigned int size = 0;
    must(::EVP_DigestFinal_ex(hash_.get(), bytes, &size) == 1 && size == out.size());
  }
  return out;
}

std::optional<Scalar> sm2_draw() {
  const Group group(::EC_GROUP_new_by_curve_name(NID_sm2));
  // 1 to n - 2, as GM/T 0003.1 wants it.
  const Number below(::BN_dup(::EC_GROUP_get0_order(group.get())));
  must(::BN_sub_word(below.get(), 2) == 1);
  const Number drawn(::BN_new());
  must(::BN_priv_rand_range(drawn.get(), below.get()) == 1);
  must(::BN_add_word(drawn.get(), 1) == 1);
  Scalar out{};
  if (::BN_bn2binpad(drawn.get(), uchars(std::span<std::byte>(out)), kNumberBytes) != kNumberBytes)
    return std::nullopt;
  return out;
}

std::optional<EccPublicKey> sm2_public_of(const Scalar& secret) {
  const Group group(::EC_GROUP_new_by_curve_name(NID_sm2));
  const Point point(::EC_POINT_new(group.get()));
  const Number scalar = number(secret);
  const Number x(::BN_new());
  const Number y(::BN_new());
  if (::BN_is_zero(scalar.get()) == 1 ||
      ::EC_POINT_mul(group.get(), point.get(), scalar.get(), nullptr, nullptr, nullptr) != 1 ||
      ::EC_POINT_get_affine_coordinates(group.get(), point.get(), x.get(), y.get(), nullptr) != 1)
    return std::nullopt;
  EccPublicKey out{};
  out.bits = 256;
  store(x.get(), out.x);
  store(y.get(), out.y);
  return out;
}

std::optional<EccSignature> sm2_sign(const Scalar& secret, ConstBytes digest) {
  const Key key = pair_of(secret);
  if (!key || digest.size() != sizeof(Digest)) return std::nullopt;
  const KeyContext context(::EVP_PKEY_CTX_new(key.get(), nullptr));
  std::array<unsigned char, 128> der{};
  std::size_t size = der.size();
  if (::EVP_PKEY_sign_init(context.get()) != 1 ||
      ::EVP_PKEY_sign(context.get(), der.data(), &size, uchars(digest), digest.size()) != 1)
    return std::nullopt;
  const unsigned char* at = der.data();
  ECDSA_SIG* const parts = ::d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size));
  must(parts != nullptr);
  EccSignature out{};
  store(::ECDSA_SIG_get0_r(parts), out.r);
  store(::ECDSA_SIG_get0_s(parts), out.s);
  ::ECDSA_SIG_free(parts);
  return out;
}

bool sm2_verify(const EccPublicKey& key, ConstBytes digest, const EccSignature& signature) {
  const Key pkey = import(key, nullptr);
  if (!pkey || digest.size() != sizeof(Digest)) return false;
  const KeyContext context(::EVP_PKEY_CTX_new(pkey.get(), nullptr));
  const auto der = der_signature(signature);
  return ::EVP_PKEY_verify_init(context.get()) == 1 &&
         ::EVP_PKEY_verify(context.get(), uchars(der), der.size(), uchars(digest), digest.size()) ==
             1;
}

bool sm2_encrypt(const EccPublicKey& key, ConstBytes plain, EccCipher& out) {
  const Key pkey = import(key, nullptr);
  if (!pkey || plain.empty() || plain.size() > out.text.size()) return false;
  const KeyContext context(::EVP_PKEY_CTX_new(pkey.get(), nullptr));
  std::vector<std::byte> der(plain.size() + 256);
  std::size_t size = der.size();
  if (::EVP_PKEY_encrypt_init(context.get()) != 1 ||
      ::EVP_PKEY_encrypt(context.get(), uchars(std::span<std::byte>(der)), &size, uchars(plain),
                         plain.size()) != 1)
    return false;
  Der inner(Der(ConstBytes(der).first(size)).value());
  store(number(inner.value()).get(), out.x);
  store(number(inner.value()).get(), out.y);
  std::ranges::copy(inner.value(), out.hash.begin());
  const ConstBytes text = inner.value();
  out.length = static_cast<std::uint32_t>(text.size());
  std::ranges::copy(text, out.text.begin());
  return true;
}

std::optional<std::vector<std::byte>> sm2_decrypt(const Scalar& secret, const EccCipher& cipher) {
  const Key key = pair_of(secret);
  if (!key || cipher.length == 0 || cipher.length > cipher.text.size()) return std::nullopt;
  const KeyContext context(::EVP_PKEY_CTX_new(key.get(), nullptr));
  const auto der = der_cipher(cipher);
  std::vector<std::byte> out(der.size());
  std::size_t size = out.size();
  if (::EVP_PKEY_decrypt_init(context.get()) != 1 ||
      ::EVP_PKEY_decrypt(context.get(), uchars(std::span<std::byte>(out)), &size, uchars(der),
                         der.size()) != 1)
    return std::nullopt;
  out.resize(size);
  return out;
}

Digest sm2_za(const EccPublicKey& key, ConstBytes id) {
  const Group group(::EC_GROUP_new_by_curve_name(NID_sm2));
  std::array<Number, 5> numbers;
  for (auto& one : numbers) one.reset(::BN_new());
  must(::EC_GROUP_get_curve(group.get(), numbers[4].get(), numbers[0].get(), numbers[1].get(),
                            nullptr) == 1);
  must(::EC_POINT_get_affine_coordinates(group.get(), ::EC_GROUP_get0_generator(group.get()),
                                         numbers[2].get(), numbers[3].get(), nullptr) == 1);
  Sm3 hash;
  const std::size_t bits = id.size() * 8;
  hash.update(std::array{static_cast<std::byte>(bits >> 8), static_cast<std::byte>(bits)});
  hash.update(id);
  for (std::size_t i = 0; i < 4; ++i) {
    Scalar padded{};
    must(::BN_bn2binpad(numbers.at(i).get(), uchars(std::span<std::byte>(padded)), kNumberBytes) ==
         kNumberBytes);
    hash.update(padded);
  }
  hash.update(ConstBytes(key.x).subspan(kFieldOffset));
  hash.update(ConstBytes(key.y).subspan(kFieldOffset));
  return hash.finish();
}

}  // namespace coffer::tests::sdf
