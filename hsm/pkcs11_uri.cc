// SPDX-License-Identifier: Apache-2.0
#include "hsm/pkcs11_uri.h"

#include <p11-kit/pkcs11.h>
#include <p11-kit/uri.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "core/base/unique_fd.h"

namespace coffer::hsm {
namespace {

using Parsed = CHandle<P11KitUri, ::p11_kit_uri_free>;

tl::unexpected<Error> refuse(std::string_view why) {
  return fail(Reason::kConfigInvalid, "PKCS#11 URI: " + std::string(why));
}

// p11-kit takes the last of repeated attributes and skips blanks; a reader of the file may not.
Result<void> require_plain(std::string_view text) {
  constexpr std::string_view kScheme = "pkcs11:";
  if (text.size() > Pkcs11Uri::kTextBytesMax) return refuse("longer than 512 bytes");
  if (!std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7F; }))
    return refuse("only printable ASCII without blanks is taken; escape the rest");
  if (!text.starts_with(kScheme)) return refuse("does not start with pkcs11:");
  if (text.find('?') != std::string_view::npos)
    return refuse("module and PIN are configured apart from it, so it has no query part");

  std::set<std::string_view> seen;
  auto rest = text.substr(kScheme.size());
  while (!rest.empty()) {
    const auto attribute = rest.substr(0, rest.find(';'));
    if (!seen.insert(attribute.substr(0, attribute.find('='))).second)
      return refuse("an attribute stands twice");
    rest.remove_prefix(std::min(rest.size(), attribute.size() + 1));
  }
  return {};
}

template <std::size_t N>
std::optional<std::string> field(const unsigned char (&blank_padded)[N]) {
  if (blank_padded[0] == '\0') return std::nullopt;
  const std::string_view text(reinterpret_cast<const char*>(blank_padded), N);
  const auto last = text.find_last_not_of(' ');
  return std::string(text.substr(0, last == std::string_view::npos ? 0 : last + 1));
}

std::optional<Bytes> attribute(P11KitUri* uri, CK_ATTRIBUTE_TYPE type) {
  const CK_ATTRIBUTE* found = ::p11_kit_uri_get_attribute(uri, type);
  if (found == nullptr) return std::nullopt;
  const auto* start = static_cast<const std::byte*>(found->pValue);
  return start == nullptr ? Bytes() : Bytes(start, start + found->ulValueLen);
}

bool agrees(const std::optional<std::string>& wanted, const std::string& found) {
  return !wanted || *wanted == found;
}

}  // namespace

Result<Pkcs11Uri> Pkcs11Uri::parse(std::string_view text) {
  if (const auto plain = require_plain(text); !plain) return tl::unexpected(plain.error());

  const Parsed uri(::p11_kit_uri_new());
  if (!uri) return fail(Reason::kNoMemory, "parse a PKCS#11 URI");
  const std::string terminated(text);
  const int status = ::p11_kit_uri_parse(terminated.c_str(), P11_KIT_URI_FOR_ANY, uri.get());
  if (status != P11_KIT_URI_OK) return refuse(::p11_kit_uri_message(status));
  if (::p11_kit_uri_any_unrecognized(uri.get()) != 0)
    return refuse("holds an attribute that is unknown or too long");

  Pkcs11Uri out;
  const CK_TOKEN_INFO* info = ::p11_kit_uri_get_token_info(uri.get());
  out.token = field(info->label);
  out.manufacturer = field(info->manufacturerID);
  out.model = field(info->model);
  out.serial = field(info->serialNumber);
  if (const CK_SLOT_ID slot = ::p11_kit_uri_get_slot_id(uri.get()); slot != ~CK_SLOT_ID{0})
    out.slot_id = slot;
  if (const auto label = attribute(uri.get(), CKA_LABEL)) out.object = as_text(*label);
  out.id = attribute(uri.get(), CKA_ID);
  if (const auto bytes = attribute(uri.get(), CKA_CLASS)) {
    CK_OBJECT_CLASS value = 0;
    if (bytes->size() != sizeof value) return refuse("holds a damaged type");
    std::memcpy(&value, bytes->data(), sizeof value);
    out.object_class = value;
  }
  return out;
}

bool Pkcs11Uri::matches(const TokenIdentity& found) const {
  return agrees(token, found.label) && agrees(manufacturer, found.manufacturer) &&
         agrees(model, found.model) && agrees(serial, found.serial) &&
         (!slot_id || *slot_id == found.slot_id);
}

bool Pkcs11Uri::names_token() const {
  return token || manufacturer || model || serial || slot_id;
}

}  // namespace coffer::hsm
