// SPDX-License-Identifier: Apache-2.0
#include "hsm/named_keys.h"

#include <utility>

#include "core/base/result.h"

namespace coffer::hsm {
namespace {

constexpr std::size_t kIdBytes = 16;
constexpr std::size_t kAliasBytesMax = 64;

}  // namespace

std::string NamedKey::str() const {
  return id.str() + (alias.empty() ? "" : " (" + alias + ")") + ": " + why;
}

void NamedKeys::add(const CmkId& id, const std::string& alias, const std::string& why) {
  ++count;
  if (keys.size() < kNamedMax) keys.push_back({id, alias, printable(why, kWhyBytesMax)});
}

std::string NamedKeys::lines(const std::string& before_each) const {
  std::string text;
  for (const auto& key : keys) text += before_each + key.str() + "\n";
  if (count > keys.size())
    text += before_each + "and " + std::to_string(count - keys.size()) + " more keys\n";
  return text;
}

void NamedKeys::write(ByteWriter& out) const {
  out.u64(count).u64(keys.size());
  for (const auto& key : keys) out.bytes(key.id.bytes()).text(key.alias).text(key.why);
}

NamedKeys NamedKeys::read(ByteReader& in) {
  NamedKeys out;
  out.count = in.u64();
  const std::uint64_t kept = in.u64();
  for (std::uint64_t i = 0; i < kept && i < kNamedMax; ++i) {
    const auto id = CmkId::from_bytes(in.bytes(kIdBytes));
    if (!id) break;  // The rest is then more than was expected.
    std::string alias = in.text(kAliasBytesMax);
    out.keys.push_back({*id, std::move(alias), in.text(kWhyBytesMax)});
  }
  return out;
}

}  // namespace coffer::hsm
