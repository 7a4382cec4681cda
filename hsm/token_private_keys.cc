// SPDX-License-Identifier: Apache-2.0
#include "hsm/token_private_keys.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "core/crypto/ec.h"
#include "core/crypto/rsa.h"
#include "hsm/pkcs11_errors.h"
#include "hsm/pkcs11_template.h"

namespace coffer::hsm {
namespace {

using keyring::KeyAlgorithm;
using keyring::SignScheme;

constexpr std::size_t kWrappedBytesMax = 4096;   // KeyVersion::material
constexpr std::size_t kSignatureBytesMax = 512;  // RSA-4096
constexpr std::size_t kModulusBytesMax = 512;    // RSA-4096
constexpr std::size_t kExponentBytesMax = 8;
constexpr std::size_t kPointBytesMax = 2 + 1 + 2 * 48;  // P-384, as an OCTET STRING.
constexpr std::size_t kDigestBytes = 32;

template <class... Numbers>
constexpr auto bytes_of(Numbers... numbers) {
  return std::array<std::byte, sizeof...(numbers)>{static_cast<std::byte>(numbers)...};
}

// RFC 5480 section 2.1.1.1, DER.
constexpr auto kP256 = bytes_of(0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07);
constexpr auto kP384 = bytes_of(0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22);
constexpr auto kIdEcPublicKey = bytes_of(0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01);
// RFC 8017 appendix A.1, with its NULL.
constexpr auto kRsaEncryption =
    bytes_of(0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01, 0x05, 0x00);
// RFC 8017 section 9.2, note 1: what stands before a SHA-256 digest.
constexpr auto kSha256Info = bytes_of(0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                      0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20);
constexpr auto kExponent = bytes_of(0x01, 0x00, 0x01);

struct Kind {
  KeyAlgorithm algorithm;
  CK_KEY_TYPE type;
  CK_MECHANISM_TYPE generation;
  CK_ULONG bits;
  ByteView curve;  // Of EC.
};
constexpr auto kKinds = std::to_array<Kind>({
    {KeyAlgorithm::kRsa2048, CKK_RSA, CKM_RSA_PKCS_KEY_PAIR_GEN, 2048, {}},
    {KeyAlgorithm::kRsa3072, CKK_RSA, CKM_RSA_PKCS_KEY_PAIR_GEN, 3072, {}},
    {KeyAlgorithm::kRsa4096, CKK_RSA, CKM_RSA_PKCS_KEY_PAIR_GEN, 4096, {}},
    {KeyAlgorithm::kEcP256, CKK_EC, CKM_EC_KEY_PAIR_GEN, 256, kP256},
    {KeyAlgorithm::kEcP384, CKK_EC, CKM_EC_KEY_PAIR_GEN, 384, kP384},
});

const Kind* kind_of(KeyAlgorithm algorithm) {
  const auto* const found = std::ranges::find(kKinds, algorithm, &Kind::algorithm);
  return found == kKinds.end() ? nullptr : found;
}

std::size_t scalar_bytes(const Kind& kind) {
  return crypto::scalar_bytes(kind.bits == 256 ? crypto::EcCurve::kP256 : crypto::EcCurve::kP384);
}

// DER of one value of at most 65535 bytes.
Bytes der(std::uint8_t tag, ByteView content) {
  ByteWriter out;
  out.u8(tag);
  const auto size = static_cast<std::uint16_t>(content.size());
  if (size >= 0x100) {
    out.u8(0x82).u8(static_cast<std::uint8_t>(size >> 8U));
  } else if (size >= 0x80) {
    out.u8(0x81);
  }
  return out.u8(static_cast<std::uint8_t>(size & 0xFFU)).raw(content).take();
}
Bytes der_number(ByteView big_endian) {
  while (!big_endian.empty() && big_endian.front() == std::byte{0})
    big_endian = big_endian.subspan(1);
  ByteWriter out;
  const bool negative =
      !big_endian.empty() && (big_endian.front() & std::byte{0x80}) != std::byte{0};
  if (negative || big_endian.empty()) out.u8(0);
  return der(0x02, out.raw(big_endian).view());
}
constexpr std::uint8_t kSequence = 0x30;
constexpr std::uint8_t kBitString = 0x03;

// SubjectPublicKeyInfo of `algorithm`, itself DER, and the key's bits.
Bytes public_info(ByteView algorithm, ByteView key) {
  const Bytes bits = der(kBitString, ByteWriter().u8(0).raw(key).view());
  return der(kSequence, ByteWriter().raw(der(kSequence, algorithm)).raw(bits).view());
}

// What the token says of the public half of a pair; nothing of it is trusted before it was parsed.
CK_RV read_public(const ObjectAccess& access, const Kind& kind, CK_OBJECT_HANDLE key, Bytes& out) {
  const auto read = [&](CK_ATTRIBUTE* attributes, CK_ULONG count) {
    return access.module.call(&CK_FUNCTION_LIST::C_GetAttributeValue, access.owner, key, attributes,
                              count);
  };
  if (kind.type == CKK_RSA) {
    Bytes modulus(kModulusBytesMax);
    Bytes exponent(kExponentBytesMax);
    std::array<CK_ATTRIBUTE, 2> wanted{{{CKA_MODULUS, modulus.data(), modulus.size()},
                                        {CKA_PUBLIC_EXPONENT, exponent.data(), exponent.size()}}};
    if (const CK_RV rv = read(wanted.data(), wanted.size()); rv != CKR_OK) return rv;
    if (wanted[0].ulValueLen > modulus.size() || wanted[1].ulValueLen > exponent.size())
      return CKR_GENERAL_ERROR;
    const ByteView n = ByteView(modulus).first(wanted[0].ulValueLen);
    const ByteView e = ByteView(exponent).first(wanted[1].ulValueLen);
    out = public_info(kRsaEncryption,
                      der(kSequence, ByteWriter().raw(der_number(n)).raw(der_number(e)).view()));
    return CKR_OK;
  }
  Bytes point(kPointBytesMax);
  CK_ATTRIBUTE wanted{CKA_EC_POINT, point.data(), point.size()};
  if (const CK_RV rv = read(&wanted, 1); rv != CKR_OK) return rv;
  if (wanted.ulValueLen > point.size()) return CKR_GENERAL_ERROR;
  ByteView found = ByteView(point).first(wanted.ulValueLen);
  // An OCTET STRING as PKCS #11 has it, or its content alone, as some tokens do.
  const std::size_t point_bytes = 1 + 2 * scalar_bytes(kind);
  if (found.size() == point_bytes + 2) found = found.last(point_bytes);
  out = public_info(ByteWriter().raw(kIdEcPublicKey).raw(kind.curve).view(), found);
  return CKR_OK;
}

CK_RV wrap(const TokenLink::Session& session, CK_OBJECT_HANDLE key, Bytes& out) {
  CK_MECHANISM wrapping{CKM_AES_KEY_WRAP_PAD, nullptr, 0};
  out.assign(kWrappedBytesMax, std::byte{0});
  CK_ULONG size = out.size();
  const CK_RV rv = session.module.call(&CK_FUNCTION_LIST::C_WrapKey, session.handle, &wrapping,
                                       session.facts.keys.private_keys, key, p11_bytes(out), &size);
  if (rv != CKR_OK) return rv;
  if (size == 0 || size > out.size()) return CKR_WRAPPED_KEY_LEN_RANGE;
  out.resize(size);
  return CKR_OK;
}

// Makes a pair, wraps its private half and leaves neither behind.
CK_RV make_pair(const TokenLink::Session& session, const Kind& kind, NewKey& out) {
  Template half;
  half.flag(CKA_TOKEN, false).flag(CKA_VERIFY, true).flag(CKA_ENCRYPT, false).flag(CKA_WRAP, false);
  if (kind.type == CKK_RSA) {
    half.number(CKA_MODULUS_BITS, kind.bits).bytes(CKA_PUBLIC_EXPONENT, kExponent);
  } else {
    half.bytes(CKA_EC_PARAMS, kind.curve);
  }
  // Extractable for the time of one wrap, and good for nothing else.
  Template wanted;
  wanted.flag(CKA_TOKEN, false).flag(CKA_PRIVATE, true).flag(CKA_SENSITIVE, true);
  wanted.flag(CKA_EXTRACTABLE, true).flag(CKA_SIGN, false).flag(CKA_DECRYPT, false);
  wanted.flag(CKA_UNWRAP, false).flag(CKA_DERIVE, false);

  // In a session of its own, which is closed should this fail, and what is left of the pair with
  // it: nobody waits for the seconds that RSA takes. The link searches for objects while no work
  // runs.
  const ObjectAccess access{session.module, session.handle, session.objects.objects};
  const auto& module = session.module;
  CK_MECHANISM generation{kind.generation, nullptr, 0};
  CK_OBJECT_HANDLE public_half = CK_INVALID_HANDLE;
  CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
  CK_RV rv =
      module.long_call(&CK_FUNCTION_LIST::C_GenerateKeyPair, session.handle, &generation,
                       half.data(), half.size(), wanted.data(), wanted.size(), &public_half, &key);
  if (rv != CKR_OK) return rv;
  const std::scoped_lock lock(access.objects);
  rv = read_public(access, kind, public_half, out.public_key);
  if (rv == CKR_OK) rv = wrap(session, key, out.material);
  // A key that could be taken out must not stay behind.
  const CK_RV destroyed = module.call(&CK_FUNCTION_LIST::C_DestroyObject, session.handle, key);
  const CK_RV half_destroyed =
      module.call(&CK_FUNCTION_LIST::C_DestroyObject, session.handle, public_half);
  if (rv != CKR_OK) return rv;
  return destroyed != CKR_OK ? destroyed : half_destroyed;
}

// Every attribute of the wrapping key's unwrap template is stated, and no CKA_WRAP, which a private
// key does not have. ObjectAccess::objects is held.
CK_RV unwrap(const TokenLink::Session& session, const Kind& kind, ByteView material,
             CK_OBJECT_HANDLE& out) {
  Template wanted;
  wanted.number(CKA_CLASS, CKO_PRIVATE_KEY).number(CKA_KEY_TYPE, kind.type);
  wanted.flag(CKA_TOKEN, false).flag(CKA_PRIVATE, true).flag(CKA_SENSITIVE, true);
  wanted.flag(CKA_EXTRACTABLE, false).flag(CKA_SIGN, true).flag(CKA_DECRYPT, false);
  wanted.flag(CKA_UNWRAP, false).flag(CKA_DERIVE, false);
  CK_MECHANISM mechanism{CKM_AES_KEY_WRAP_PAD, nullptr, 0};
  return session.module.call(&CK_FUNCTION_LIST::C_UnwrapKey, session.objects.owner, &mechanism,
                             session.facts.keys.private_keys, p11_bytes(material),
                             CK_ULONG{material.size()}, wanted.data(), wanted.size(), &out);
}

// How the token is asked for a signature: it is given what it puts under the mechanism.
struct Signing {
  CK_MECHANISM_TYPE mechanism;
  Bytes input;
};

Result<Signing> signing_of(const Kind& kind, SignScheme scheme, ByteView digest) {
  const bool rsa = kind.type == CKK_RSA;
  const bool fits =
      rsa ? scheme == SignScheme::kRsaPssSha256 || scheme == SignScheme::kRsaPkcs1Sha256
          : scheme == SignScheme::kEcdsa;
  if (!fits)
    return fail(Reason::kKeyUsage, "a key of " + std::string(key_algorithm_name(kind.algorithm)) +
                                       " does not sign by " +
                                       std::string(sign_scheme_name(scheme)));
  const bool sized =
      digest.size() == kDigestBytes || (!rsa && (digest.size() == 48 || digest.size() == 64));
  if (!sized)
    return fail(Reason::kInvalidArgs,
                "signature of a digest of " + std::to_string(digest.size()) + " bytes");
  if (scheme == SignScheme::kRsaPkcs1Sha256)
    return Signing{CKM_RSA_PKCS, ByteWriter().raw(kSha256Info).raw(digest).take()};
  // A digest that is longer than the curve's order is cut (FIPS 186-5 section 6.4.1).
  if (!rsa) digest = digest.first(std::min(digest.size(), scalar_bytes(kind)));
  return Signing{rsa ? CKM_RSA_PKCS_PSS : CKM_ECDSA, Bytes(digest.begin(), digest.end())};
}

CK_RV sign_once(const TokenLink::Session& session, CK_OBJECT_HANDLE key, const Signing& signing,
                Bytes& out) {
  CK_RSA_PKCS_PSS_PARAMS pss{CKM_SHA256, CKG_MGF1_SHA256, kDigestBytes};
  CK_MECHANISM mechanism{signing.mechanism, nullptr, 0};
  if (signing.mechanism == CKM_RSA_PKCS_PSS) mechanism = {CKM_RSA_PKCS_PSS, &pss, sizeof pss};
  CK_RV rv = session.module.call(&CK_FUNCTION_LIST::C_SignInit, session.handle, &mechanism, key);
  if (rv != CKR_OK) return rv;
  out.assign(kSignatureBytesMax, std::byte{0});
  CK_ULONG size = out.size();
  rv = session.module.call(&CK_FUNCTION_LIST::C_Sign, session.handle, p11_bytes(signing.input),
                           CK_ULONG{signing.input.size()}, p11_bytes(out), &size);
  if (rv != CKR_OK) return rv;
  if (size > out.size()) return CKR_GENERAL_ERROR;
  out.resize(size);
  return CKR_OK;
}

Result<void> verify(const Kind& kind, ByteView public_key, SignScheme scheme, ByteView digest,
                    ByteView signature) {
  if (kind.type == CKK_RSA) {
    const auto key = crypto::RsaPublicKey::parse(public_key);
    if (!key) return tl::unexpected(key.error());
    if (key->size_bits() != kind.bits)
      return fail(Reason::kHsmFailed, "the token made a key of another size");
    return key->verify(scheme == SignScheme::kRsaPssSha256 ? crypto::RsaScheme::kPssSha256
                                                           : crypto::RsaScheme::kPkcs1Sha256,
                       digest, signature);
  }
  const auto key = crypto::EcPublicKey::parse(public_key);
  if (!key) return tl::unexpected(key.error());
  return key->verify(digest, signature);
}

// The token's signature in the form that callers get, once it holds.
Result<Bytes> checked(const Kind& kind, ByteView public_key, SignScheme scheme, ByteView digest,
                      Bytes signature) {
  const auto wrong = [](const Error& why) {
    return fail(Reason::kHsmFailed, "the token's signature does not hold: " + why.message());
  };
  if (kind.type == CKK_EC) {
    auto written = crypto::signature_to_der(signature, scalar_bytes(kind));
    if (!written) return wrong(written.error());
    signature = std::move(*written);
  }
  if (const auto holds = verify(kind, public_key, scheme, digest, signature); !holds)
    return wrong(holds.error());
  return signature;
}

SignScheme usual_scheme(const Kind& kind) {
  return kind.type == CKK_RSA ? SignScheme::kRsaPssSha256 : SignScheme::kEcdsa;
}

// Whether the token shows a mechanism for that use, and for keys of so many bits unless they are 0.
CK_RV shows(const TokenLink::Session& session, CK_MECHANISM_TYPE type, CK_FLAGS use, CK_ULONG bits,
            bool& out) {
  out = false;
  if (!session.facts.mechanisms.contains(type)) return CKR_OK;
  CK_MECHANISM_INFO info{};
  const CK_RV rv = session.module.call(&CK_FUNCTION_LIST::C_GetMechanismInfo,
                                       session.facts.token.slot, type, &info);
  if (rv != CKR_OK) return rv;
  out = (info.flags & use) == use &&
        (bits == 0 || (info.ulMinKeySize <= bits && bits <= info.ulMaxKeySize));
  return CKR_OK;
}

CK_RV list_shown(const TokenLink::Session& session, std::vector<KeyAlgorithm>& out) {
  struct Need {
    CK_MECHANISM_TYPE type;
    CK_FLAGS use;
    CK_ULONG bits;
  };
  for (const Kind& kind : kKinds) {
    std::vector<Need> needs{{CKM_AES_KEY_WRAP_PAD, CKF_WRAP | CKF_UNWRAP, 0},
                            {kind.generation, CKF_GENERATE_KEY_PAIR, kind.bits}};
    if (kind.type == CKK_RSA) {
      needs.push_back({CKM_RSA_PKCS, CKF_SIGN, 0});
      needs.push_back({CKM_RSA_PKCS_PSS, CKF_SIGN, 0});
    } else {
      needs.push_back({CKM_ECDSA, CKF_SIGN, 0});
    }
    bool all = true;
    for (const Need& need : needs) {
      bool shown = false;
      const CK_RV rv = shows(session, need.type, need.use, need.bits, shown);
      if (rv != CKR_OK) return rv;
      all = all && shown;
    }
    if (all) out.push_back(kind.algorithm);
  }
  return CKR_OK;
}

// Whatever a key goes through, with one that nobody is given.
CK_RV try_pair(const TokenLink::Session& session, const Kind& kind, bool& out) {
  const Bytes digest(kDigestBytes, std::byte{0x5A});
  const auto signing = signing_of(kind, usual_scheme(kind), digest);
  NewKey made;
  CK_RV rv = make_pair(session, kind, made);
  if (rv != CKR_OK) return rv;
  CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
  {
    const std::scoped_lock lock(session.objects.objects);
    rv = unwrap(session, kind, made.material, key);
  }
  if (rv != CKR_OK) return rv;
  Bytes signature;
  rv = sign_once(session, key, *signing, signature);
  {
    const std::scoped_lock lock(session.objects.objects);
    const CK_RV destroyed =
        session.module.call(&CK_FUNCTION_LIST::C_DestroyObject, session.objects.owner, key);
    if (rv == CKR_OK) rv = destroyed;
  }
  if (rv != CKR_OK) return rv;
  out =
      checked(kind, made.public_key, usual_scheme(kind), digest, std::move(signature)).has_value();
  return CKR_OK;
}

}  // namespace

Result<std::vector<KeyAlgorithm>> TokenPrivateKeys::signs(const TokenLink::FactsPtr& facts) {
  if (facts->keys.private_keys == CK_INVALID_HANDLE) return std::vector<KeyAlgorithm>();
  {
    const std::scoped_lock lock(mutex_);
    if (tried_ == facts) return signs_;
  }
  std::vector<KeyAlgorithm> found;
  bool refused = false;
  const auto tried =
      link_.run("try private keys in the token", [&](const TokenLink::Session& session) -> CK_RV {
        found.clear();
        CK_RV rv = list_shown(session, found);
        if (rv != CKR_OK || found.empty()) return rv;
        // A pair of EC takes no time, one of RSA may take seconds.
        const bool has_ec = std::ranges::count(found, KeyAlgorithm::kEcP256) != 0;
        bool works = false;
        rv = try_pair(session, *kind_of(has_ec ? KeyAlgorithm::kEcP256 : found.front()), works);
        refused = return_info(rv).kind == ReturnClass::kOther;
        if (!works) found.clear();
        return rv;
      });
  if (!tried && !refused) return tl::unexpected(tried.error());
  if (!tried) found.clear();
  const std::scoped_lock lock(mutex_);
  tried_ = facts;
  signs_ = found;
  return found;
}

Result<NewKey> TokenPrivateKeys::generate(const CmkId& cmk, std::uint32_t number,
                                          KeyAlgorithm algorithm) {
  const Kind* const kind = kind_of(algorithm);
  if (kind == nullptr)
    return fail(Reason::kUnsupported, "this token makes no private keys of " +
                                          std::string(key_algorithm_name(algorithm)));
  const Bytes digest(kDigestBytes, std::byte{0x5A});
  const auto scheme = usual_scheme(*kind);
  const auto signing = signing_of(*kind, scheme, digest);
  if (!signing) return tl::unexpected(signing.error());
  NewKey made;
  Bytes signature;
  const auto done = link_.run(
      "generate version " + std::to_string(number) + " of key " + cmk.str(),
      [&](const TokenLink::Session& session) -> CK_RV {
        if (session.facts.keys.private_keys == CK_INVALID_HANDLE) return CKR_MECHANISM_INVALID;
        CK_RV rv = make_pair(session, *kind, made);
        if (rv != CKR_OK) return rv;
        CmkHandles::Handle back;
        rv = handles_.get(
            session.objects, {cmk, number}, made.material,
            [&](CK_OBJECT_HANDLE& out) { return unwrap(session, *kind, made.material, out); },
            back);
        return rv == CKR_OK ? sign_once(session, *back, *signing, signature) : rv;
      });
  Result<void> outcome = done;
  if (done) {
    const auto holds = checked(*kind, made.public_key, scheme, digest, std::move(signature));
    if (!holds) outcome = tl::unexpected(holds.error());
  }
  if (!outcome) {
    handles_.drop({cmk, number});  // Tried again, it gets the same number.
    return tl::unexpected(outcome.error());
  }
  return made;
}

Result<Bytes> TokenPrivateKeys::sign(const TokenKey& key, SignScheme scheme, ByteView digest) {
  const Kind* const kind = kind_of(key.record.algorithm);
  if (kind == nullptr)
    return fail(Reason::kKeyUsage, "key " + key.record.id.str() + " does not sign in a token");
  const auto signing = signing_of(*kind, scheme, digest);
  if (!signing) return pass(signing.error(), "sign with key " + key.record.id.str());
  Bytes signature;
  const auto done = link_.run(
      "sign with key " + key.record.id.str(), [&](const TokenLink::Session& session) -> CK_RV {
        if (session.facts.keys.private_keys == CK_INVALID_HANDLE) return CKR_MECHANISM_INVALID;
        CmkHandles::Handle object;
        const CK_RV rv = handles_.get(
            session.objects, {key.record.id, key.version.number}, key.version.material,
            [&](CK_OBJECT_HANDLE& out) {
              return unwrap(session, *kind, key.version.material, out);
            },
            object);
        return rv == CKR_OK ? sign_once(session, *object, *signing, signature) : rv;
      });
  if (!done) return tl::unexpected(done.error());
  return checked(*kind, key.version.public_key, scheme, digest, std::move(signature));
}

}  // namespace coffer::hsm
