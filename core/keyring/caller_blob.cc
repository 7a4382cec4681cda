// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/caller_blob.h"

#include <string_view>

#include "core/keyring/enum_codec.h"

namespace coffer::keyring {
namespace {

constexpr char kMagic[] = "CFCB";
constexpr std::uint8_t kFormatVersion = 2;
constexpr std::size_t kContextBytesMax = 1024;

bool has_length(Purpose purpose, std::uint32_t plain_bytes) {
  if (purpose == Purpose::kData) {
    return plain_bytes >= 1 && plain_bytes <= CallerBlob::kPlainBytesMax;
  }
  return purpose == Purpose::kEnvelopeData && plain_bytes >= CallerBlob::kDataKeyBytesMin &&
         plain_bytes <= CallerBlob::kDataKeyBytesMax;
}

// As RFC 8259 section 7 wants it, and no more.
void append_quoted(std::string& out, std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20U) {
      out += "\\u00";
      out += kDigits[byte >> 4U];
      out += kDigits[byte & 0xFU];
    } else {
      out += c;
    }
  }
  out += '"';
}

bool is_text(std::string_view text) {
  return is_utf8(text) && text.find('\0') == std::string_view::npos;
}

}  // namespace

KeyContext CallerBlob::context_of(Purpose purpose, std::uint32_t plain_bytes,
                                  const std::string& application) {
  KeyContext context;
  context.purpose = purpose;
  context.key_bytes = plain_bytes;
  context.application = application;
  return context;
}

Bytes CallerBlob::encode() const {
  ByteWriter out;
  out.raw(as_bytes(kMagic)).u8(kFormatVersion);
  write_enum(out, purpose);
  out.u16(static_cast<std::uint16_t>(plain_bytes)).raw(wrapped.encode());
  return out.take();
}

Result<CallerBlob> CallerBlob::decode(ByteView bytes) {
  if (bytes.size() > kEncodedBytesMax) {
    return fail(Reason::kBlobInvalid, "the ciphertext is longer than any of Coffer's");
  }
  ByteReader in(bytes);
  read_magic(in, kMagic);
  if (in.u8() != kFormatVersion) in.reject();
  const Purpose purpose = read_enum(in, Purpose::kData);
  const std::uint32_t plain_bytes = in.u16();
  if (!has_length(purpose, plain_bytes)) in.reject();
  const ByteView rest = in.raw(in.rest_bytes());
  if (auto done = in.finish(Reason::kBlobInvalid, "ciphertext"); !done) {
    return tl::unexpected(done.error());
  }
  auto wrapped = WrappedKey::decode(rest);
  if (!wrapped) return tl::unexpected(wrapped.error());
  return CallerBlob{purpose, plain_bytes, std::move(*wrapped)};
}

Result<std::string> canonical_context(const std::map<std::string, std::string>& context) {
  if (context.empty()) return std::string();
  std::string out;
  for (const auto& [name, value] : context) {
    if (name.empty() || !is_text(name) || !is_text(value)) {
      return fail(Reason::kInvalidArgs, "a context is of names and values in UTF-8");
    }
    out += out.empty() ? '{' : ',';
    append_quoted(out, name);
    out += ':';
    append_quoted(out, value);
    if (out.size() > kContextBytesMax) break;
  }
  out += '}';
  if (out.size() > kContextBytesMax) {
    return fail(Reason::kLimitsExceeded, "the context is longer than 1024 bytes as JSON");
  }
  return out;
}

}  // namespace coffer::keyring
