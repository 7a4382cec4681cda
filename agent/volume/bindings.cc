// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/bindings.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>

namespace coffer::agent {
namespace {

constexpr std::string_view kPrefix = "volume:";
constexpr std::size_t kPage = 1000;

// The volumes that are bound to the key.
Result<std::set<VolumeId>> bound_volumes(const CmkId& key, const keyring::Keyring& keyring) {
  std::set<VolumeId> volumes;
  for (std::string after(kPrefix);;) {
    const auto page = keyring.bindings(key, after, kPage);
    if (!page) return tl::unexpected(page.error());
    for (const std::string& resource : *page) {
      if (!resource.starts_with(kPrefix)) return volumes;  // They ascend.
      if (const auto id = VolumeId::parse(std::string_view(resource).substr(kPrefix.size()))) {
        volumes.insert(*id);
      }
    }
    if (page->size() < kPage) return volumes;
    after = page->back();
  }
}

bool names(const VolumeRow& row, const CmkId& key) {
  return std::find(row.keys.begin(), row.keys.end(), key) != row.keys.end();
}

// By the row as it is now. One that cannot be read may want everything.
bool is_unwanted(Registry& registry, const VolumeId& id, const CmkId& key) {
  const auto row = registry.find(id);
  return row ? !names(*row, key) : row.error().reason() == Reason::kNoSuchVolume;
}

bool waits_for_key(Reason reason) {
  return reason == Reason::kKeyDisabled || reason == Reason::kKeyArchived ||
         reason == Reason::kKeyPendingImport || reason == Reason::kKeyPendingDeletion;
}

class Settler {
 public:
  Settler(const CmkId& key, Registry& registry, keyring::Keyring& keyring,
          const audit::Actor& actor, BindingsSettled& settled)
      : key_(key), registry_(registry), keyring_(keyring), actor_(actor), settled_(settled) {}

  // `wanted`: the volumes whose rows name the key.
  void settle(const std::set<VolumeId>& wanted) {
    const auto record = keyring_.get(key_);
    const auto bound = bound_volumes(key_, keyring_);
    if (!record || !bound) {
      const Error& error = record ? bound.error() : record.error();
      // Of a destroyed key there is nothing to settle.
      if (error.reason() != Reason::kNoSuchKey) fail_for(error);
      return;
    }
    const bool enabled = record->state == keyring::KeyState::kEnabled;
    bool expires = enabled && record->material_valid_to.has_value();
    for (const VolumeId& id : wanted) {
      // Binding was cut off before it took the time of the material away: it is done once more.
      const bool again = std::exchange(expires, false);
      if (bound->contains(id) && !again) continue;
      if (enabled) {
        bind(id);
      } else {
        ++settled_.waiting;
      }
    }
    for (const VolumeId& id : *bound) {
      // A volume that is made just now has its row before it has its binding.
      if (!wanted.contains(id) && is_unwanted(registry_, id, key_)) unbind(id);
    }
  }

 private:
  void bind(const VolumeId& id) {
    const auto bound = keyring_.bind(key_, resource_of(id), actor_);
    if (!bound && waits_for_key(bound.error().reason())) {
      ++settled_.waiting;
    } else if (!bound) {
      fail_for(bound.error());
    } else {
      ++settled_.bound;
      // It may have been forgotten meanwhile, by who found nothing to unbind.
      if (is_unwanted(registry_, id, key_)) unbind(id);
    }
  }

  void unbind(const VolumeId& id) {
    if (const auto unbound = keyring_.unbind(key_, resource_of(id), actor_); !unbound) {
      fail_for(unbound.error());
    } else {
      ++settled_.unbound;
    }
  }

  void fail_for(const Error& error) { settled_.failed.push_back({key_, error}); }

  const CmkId& key_;
  Registry& registry_;
  keyring::Keyring& keyring_;
  const audit::Actor& actor_;
  BindingsSettled& settled_;
};

}  // namespace

std::string resource_of(const VolumeId& id) {
  return std::string(kPrefix) + id.str();
}

Result<void> require_only_volumes(const CmkId& key, const keyring::Keyring& keyring) {
  std::string after;
  while (true) {
    const auto page = keyring.bindings(key, after, kPage);
    if (!page) return tl::unexpected(page.error());
    for (const std::string& resource : *page) {
      if (resource.starts_with(kPrefix)) continue;
      return fail(Reason::kKeyBound, printable(resource, 200) + " uses key " + key.str());
    }
    if (page->size() < kPage) return {};
    after = page->back();
  }
}

Result<void> bind_keys(const VolumeRow& row, keyring::Keyring& keyring, const audit::Actor& actor) {
  for (const CmkId& key : row.keys) {
    if (auto bound = keyring.bind(key, resource_of(row.id), actor); !bound) return bound;
  }
  return {};
}

std::vector<CmkId> unbind_keys(const VolumeRow& row, keyring::Keyring& keyring,
                               const audit::Actor& actor) {
  std::vector<CmkId> left;
  for (const CmkId& key : row.keys) {
    const auto unbound = keyring.unbind(key, resource_of(row.id), actor);
    // Of a destroyed key nothing is left.
    if (!unbound && unbound.error().reason() != Reason::kNoSuchKey) left.push_back(key);
  }
  return left;
}

Result<std::vector<CmkId>> keys_to_settle(Registry& registry, const keyring::Keyring& keyring) {
  const auto contents = registry.load();
  if (!contents) return tl::unexpected(contents.error());
  const auto bound = keyring.bound_keys(kPrefix);
  if (!bound) return bound;
  std::set<CmkId> keys(bound->begin(), bound->end());
  for (const VolumeRow& row : contents->rows) keys.insert(row.keys.begin(), row.keys.end());
  return std::vector<CmkId>(keys.begin(), keys.end());
}

Result<std::vector<CmkId>> keys_bound_to(const VolumeId& id, const keyring::Keyring& keyring) {
  return keyring.bound_keys(resource_of(id));
}

Result<BindingsSettled> settle_bindings(std::span<const CmkId> keys, Registry& registry,
                                        keyring::Keyring& keyring, const audit::Actor& actor) {
  const auto contents = registry.load();
  if (!contents) return tl::unexpected(contents.error());
  std::map<CmkId, std::set<VolumeId>> wanted;
  for (const CmkId& key : keys) wanted[key];
  for (const VolumeRow& row : contents->rows) {
    for (const CmkId& key : row.keys) {
      if (const auto asked = wanted.find(key); asked != wanted.end()) asked->second.insert(row.id);
    }
  }
  BindingsSettled settled;
  for (const auto& [key, volumes] : wanted)
    Settler(key, registry, keyring, actor, settled).settle(volumes);
  return settled;
}

}  // namespace coffer::agent
