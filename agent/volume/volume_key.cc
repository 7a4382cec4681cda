// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/volume_key.h"

#include <algorithm>

namespace coffer::agent {
namespace {

Result<MadeVolumeKey> make_shares(const VolumeKeyOrder& order, const LifeCall& call,
                                  keyring::Keyring& keyring) {
  const keyring::SharedDekOrder shared{
      .keys = order.keys,
      .needed = static_cast<std::uint8_t>(order.threshold),
      .request = {.context = order.context, .intent = order.intents.front()},
      .ticket = order.ticket,
      .index = 0};
  auto made = keyring.make_shared_dek(shared, call.actor, call.deadline);
  if (!made) return tl::unexpected(made.error());
  MadeVolumeKey key{.context = std::move(made->context), .wraps = {}};
  for (const keyring::WrappedKey& wrap : made->wraps) key.wraps.push_back(wrap.encode());
  return key;
}

}  // namespace

Result<std::vector<CmkId>> find_volume_keys(const ProvisionOptions& options,
                                            const keyring::Keyring& keyring) {
  std::vector<std::string> names = options.keys;
  if (names.empty()) names.emplace_back("default");
  if (names.size() > keyring::KeyShares::kTotalMax) {
    return fail(Reason::kInvalidArgs, "a volume has at most 8 keys");
  }
  if (options.threshold == 0 || options.threshold > names.size()) {
    return fail(Reason::kInvalidArgs, "of " + std::to_string(names.size()) +
                                          " keys at least 1 and at most all are needed, not " +
                                          std::to_string(options.threshold));
  }
  std::vector<CmkId> keys;
  for (const std::string& name : names) {
    const auto key = keyring.find(name);
    if (!key) return tl::unexpected(key.error());
    if (std::ranges::find(keys, key->id) != keys.end()) {
      return fail(Reason::kInvalidArgs, "key " + printable(name, 64) + " is named twice");
    }
    keys.push_back(key->id);
  }
  return keys;
}

Result<MadeVolumeKey> make_volume_key(const VolumeKeyOrder& order, const LifeCall& call,
                                      keyring::Keyring& keyring) {
  if (order.threshold > 1) return make_shares(order, call, keyring);

  const keyring::DekRequest request{.context = order.context, .intent = order.intents.front()};
  auto made = keyring.make_deks(order.keys.front(), {&request, 1}, order.ticket, 0, call.actor,
                                call.deadline);
  if (made.empty()) return fail(Reason::kInternal, "the keyring made no key");
  if (!made.front()) return tl::unexpected(made.front().error());
  const keyring::WrappedKey first = *made.front();
  MadeVolumeKey key{.context = order.context, .wraps = {first.encode()}};
  for (std::size_t i = 1; i < order.keys.size(); ++i) {
    const keyring::Rewrapped same{.from = {first, order.context}, .to = order.context};
    const auto wraps = keyring.rewrap(order.keys[i], {&same, 1}, call.actor);
    if (wraps.empty()) return fail(Reason::kInternal, "the keyring wrapped no key");
    if (!wraps.front()) return tl::unexpected(wraps.front().error());
    key.wraps.push_back(wraps.front()->encode());
  }
  return key;
}

}  // namespace coffer::agent
