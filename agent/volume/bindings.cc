// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/bindings.h"

#include <algorithm>
#include <set>
#include <string_view>

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

bool is_gone(Registry& registry, const VolumeId& id) {
  const auto row = registry.find(id);
  return !row && row.error().reason() == Reason::kNoSuchVolume;
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

  void settle(const std::vector<VolumeRow>& rows) {
    const auto record = keyring_.get(key_);
    const auto bound = bound_volumes(key_, keyring_);
    if (!record || !bound) {
      const Error& error = record ? bound.error() : record.error();
      // Of a destroyed key there is nothing to settle.
      if (error.reason() != Reason::kNoSuchKey) settled_.failed.push_back(error);
      return;
    }
    const bool enabled = record->state == keyring::KeyState::kEnabled;
    std::set<VolumeId> wanted;
    for (const VolumeRow& row : rows) {
      if (std::find(row.keys.begin(), row.keys.end(), key_) != row.keys.end()) {
        wanted.insert(row.id);
      }
    }
    for (const VolumeId& id : wanted) {
      if (bound->contains(id)) continue;
      if (enabled) {
        bind(id);
      } else {
        ++settled_.waiting;
      }
    }
    for (const VolumeId& id : *bound) {
      // A volume that is made just now has its row before it has its binding.
      if (!wanted.contains(id) && is_gone(registry_, id)) unbind(id);
    }
  }

 private:
  void bind(const VolumeId& id) {
    const auto bound = keyring_.bind(key_, resource_of(id), actor_);
    if (!bound && waits_for_key(bound.error().reason())) {
      ++settled_.waiting;
    } else if (!bound) {
      settled_.failed.push_back(bound.error());
    } else {
      ++settled_.bound;
      // It may have been forgotten meanwhile, by who found nothing to unbind.
      if (is_gone(registry_, id)) unbind(id);
    }
  }

  void unbind(const VolumeId& id) {
    if (const auto unbound = keyring_.unbind(key_, resource_of(id), actor_); !unbound) {
      settled_.failed.push_back(unbound.error());
    } else {
      ++settled_.unbound;
    }
  }

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

void unbind_keys(const VolumeRow& row, keyring::Keyring& keyring, const audit::Actor& actor) {
  for (const CmkId& key : row.keys) {
    static_cast<void>(keyring.unbind(key, resource_of(row.id), actor));
  }
}

Result<BindingsSettled> settle_bindings(std::span<const CmkId> keys, Registry& registry,
                                        keyring::Keyring& keyring, const audit::Actor& actor) {
  const auto contents = registry.load();
  if (!contents) return tl::unexpected(contents.error());
  BindingsSettled settled;
  for (const CmkId& key : keys)
    Settler(key, registry, keyring, actor, settled).settle(contents->rows);
  return settled;
}

}  // namespace coffer::agent
