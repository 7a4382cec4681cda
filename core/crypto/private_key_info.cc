// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/private_key_info.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "core/crypto/der.h"

namespace coffer::crypto {
namespace {

constexpr std::string_view kWhat = "PKCS #8 private key";

template <class... Numbers>
constexpr auto bytes_of(Numbers... numbers) {
  return std::array<std::byte, sizeof...(numbers)>{static_cast<std::byte>(numbers)...};
}

// AlgorithmIdentifiers, DER, without their own head: RFC 8017 appendix A.1; RFC 5480 section
// 2.1.1, and the SM2 curve of GM/T 0006.
constexpr auto kRsa =
    bytes_of(0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01, 0x05, 0x00);
constexpr auto kEcPublicKey = bytes_of(0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01);
constexpr auto kP256 = bytes_of(0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07);
constexpr auto kP384 = bytes_of(0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22);
constexpr auto kSm2 = bytes_of(0x06, 0x08, 0x2A, 0x81, 0x1C, 0xCF, 0x55, 0x01, 0x82, 0x2D);

struct Curve {
  PrivateKeyKind kind;
  ByteView oid;  // With its head.
  std::size_t scalar_bytes;
};
constexpr std::array<Curve, 3> kCurves{{{PrivateKeyKind::kEcP256, kP256, 32},
                                        {PrivateKeyKind::kEcP384, kP384, 48},
                                        {PrivateKeyKind::kSm2, kSm2, 32}}};

// Of RSAPrivateKey, behind its version: n, e, d, p, q and three for the CRT.
constexpr int kRsaNumbers = 8;

bool is_number(ByteReader& in, std::uint8_t wanted) {
  const auto number = read_der_number(in);
  return number.size() == 1 && number.front() == std::byte{wanted};
}

// `der` is one SEQUENCE and nothing behind it.
Result<ByteReader> open_sequence(ByteView der, std::string_view what) {
  ByteReader whole(der);
  const ByteReader in(read_der(whole, kDerSequence));
  if (const auto good = whole.finish(Reason::kInvalidArgs, what); !good)
    return tl::unexpected(good.error());
  return in;
}

// The canonical form: what is secret is copied once, into locked memory.
Result<SecretBytes> behind(ByteView head, ByteView secret) {
  auto out = SecretBytes::zeroed(head.size() + secret.size());
  if (!out) return out;
  const auto bytes = out->reveal_mutable();
  std::ranges::copy(head, bytes.begin());
  std::ranges::copy(secret, bytes.subspan(head.size()).begin());
  return out;
}

// PrivateKeyInfo up to its private key, of which `key_bytes` follow.
Bytes info_head(ByteView algorithm, std::size_t key_bytes) {
  ByteWriter key;
  write_der_head(key, kDerOctetString, key_bytes);
  ByteWriter content;
  content.u8(kDerInteger).u8(1).u8(0);
  write_der_head(content, kDerSequence, algorithm.size());
  content.raw(algorithm).raw(key.view());
  ByteWriter out;
  write_der_head(out, kDerSequence, content.size() + key_bytes);
  return out.raw(content.view()).take();
}

Result<PrivateKeyInfo> read_rsa(ByteView key) {
  auto in = open_sequence(key, "RSA private key");
  if (!in) return tl::unexpected(in.error());
  if (!is_number(*in, 0)) in->reject();  // 1: of more than two primes.
  for (int i = 0; i < kRsaNumbers; ++i) read_der_number(*in);
  if (const auto good = in->finish(Reason::kInvalidArgs, "RSA private key"); !good)
    return tl::unexpected(good.error());
  auto der = behind(info_head(kRsa, key.size()), key);
  if (!der) return tl::unexpected(der.error());
  return PrivateKeyInfo{PrivateKeyKind::kRsa, std::move(*der), {}};
}

// The point that stands behind the key, in [1]; empty where nothing does.
Bytes read_point(ByteReader& in) {
  const auto tagged = read_der_if_there(in, der_context(1));
  if (!tagged) return {};
  ByteReader whole(*tagged);
  ByteReader bits(read_der(whole, kDerBitString));
  if (bits.u8() != 0) in.reject();  // Unused bits.
  const auto point = bits.raw(bits.rest_bytes());
  if (!whole.finish(Reason::kInvalidArgs, kWhat) || point.empty()) in.reject();
  return {point.begin(), point.end()};
}

Result<PrivateKeyInfo> read_ec(ByteView key, const Curve& curve) {
  auto in = open_sequence(key, "EC private key");
  if (!in) return tl::unexpected(in.error());
  if (!is_number(*in, 1)) in->reject();
  const auto scalar = read_der(*in, kDerOctetString);
  if (scalar.size() != curve.scalar_bytes) in->reject();
  // Told once more; OpenSSL would believe this one.
  const auto inner = read_der_if_there(*in, der_context(0));
  if (inner && !std::ranges::equal(*inner, curve.oid)) in->reject();
  Bytes point = read_point(*in);
  if (const auto good = in->finish(Reason::kInvalidArgs, "EC private key"); !good)
    return tl::unexpected(good.error());

  ByteWriter inside;  // ECPrivateKey up to the number.
  inside.u8(kDerInteger).u8(1).u8(1);
  write_der_head(inside, kDerOctetString, scalar.size());
  ByteWriter head;
  write_der_head(head, kDerSequence, inside.size() + scalar.size());
  head.raw(inside.view());
  const Bytes algorithm = ByteWriter().raw(kEcPublicKey).raw(curve.oid).take();
  const Bytes before = info_head(algorithm, head.size() + scalar.size());
  auto der = behind(ByteWriter().raw(before).raw(head.view()).view(), scalar);
  if (!der) return tl::unexpected(der.error());
  return PrivateKeyInfo{curve.kind, std::move(*der), std::move(point)};
}

const Curve* curve_of(ByteView algorithm) {
  if (algorithm.size() <= kEcPublicKey.size() ||
      !std::ranges::equal(algorithm.first(kEcPublicKey.size()), kEcPublicKey)) {
    return nullptr;
  }
  const auto oid = algorithm.subspan(kEcPublicKey.size());
  const auto* const found = std::ranges::find_if(
      kCurves, [&](const Curve& curve) { return std::ranges::equal(curve.oid, oid); });
  return found == kCurves.end() ? nullptr : found;
}

}  // namespace

Result<PrivateKeyInfo> read_private_key_info(ByteView der) {
  if (der.size() > kPrivateKeyInfoBytesMax)
    return fail(Reason::kInvalidArgs, std::string(kWhat) + ": too long");
  auto in = open_sequence(der, kWhat);
  if (!in) return tl::unexpected(in.error());
  if (!is_number(*in, 0)) in->reject();
  const auto algorithm = read_der(*in, kDerSequence);
  const auto key = read_der(*in, kDerOctetString);
  // Attributes say nothing of the key.
  read_der_if_there(*in, der_context(0));
  if (const auto good = in->finish(Reason::kInvalidArgs, kWhat); !good)
    return tl::unexpected(good.error());
  if (std::ranges::equal(algorithm, kRsa)) return read_rsa(key);
  if (const Curve* const curve = curve_of(algorithm); curve != nullptr) return read_ec(key, *curve);
  return fail(Reason::kInvalidArgs,
              std::string(kWhat) + " of an algorithm or a curve that is not read");
}

bool is_same_point(ByteView point, ByteView uncompressed) {
  if (std::ranges::equal(point, uncompressed)) return true;
  if (point.empty() || uncompressed.size() % 2 == 0) return false;
  const std::size_t half = uncompressed.size() / 2;
  const bool is_odd = (uncompressed.back() & std::byte{1}) != std::byte{0};
  return point.front() == (is_odd ? std::byte{3} : std::byte{2}) &&
         std::ranges::equal(point.subspan(1), uncompressed.subspan(1, half));
}

}  // namespace coffer::crypto
