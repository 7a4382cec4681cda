// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <optional>
#include <utility>

#include "tests/unit/core/keyring/key_fixture.h"

namespace coffer::tests {

inline constexpr std::array kStates{
    keyring::KeyState::kEnabled,       keyring::KeyState::kDisabled,
    keyring::KeyState::kArchived,      keyring::KeyState::kPendingImport,
    keyring::KeyState::kPendingDelete, keyring::KeyState::kDestroyed};

// Keys in every state that they can come to.
class KeyStatesFixture : public KeyFixture {
 protected:
  using KeyFixture::create;
  keyring::CmkRecord create(keyring::KeyOwner owner = keyring::KeyOwner::kUser,
                            keyring::KeyOrigin origin = keyring::KeyOrigin::kGenerated) {
    keyring::CmkParameters parameters;
    parameters.owner = owner;
    parameters.origin = origin;
    return create(parameters);
  }

  using OnceMade = std::function<void(const keyring::CmkRecord& key)>;

  // A key in `state`, on the shortest way there; `made` is called while it is enabled. None where
  // no way leads: a service's key, which nobody disables, comes back so from a volume's header and
  // gets no further.
  std::optional<keyring::CmkRecord> create_in(keyring::KeyState state, keyring::KeyOwner owner,
                                              keyring::CmkParameters parameters = {},
                                              const OnceMade& made = {}) {
    using keyring::KeyState;
    parameters.owner = owner;
    const bool is_service = owner == keyring::KeyOwner::kService;
    if (is_service && state != KeyState::kEnabled && state != KeyState::kDisabled) return {};
    if (state == KeyState::kPendingImport) parameters.origin = keyring::KeyOrigin::kImported;
    keyring::CmkRecord key = create(parameters);
    if (made && key.state == KeyState::kEnabled) {
      made(key);
      key = *keyring::CmkRecord::decode(store_.row(key.id).record);
    }
    const bool is_there = state == KeyState::kEnabled || state == KeyState::kPendingImport;
    if (!is_there) key = is_service ? bring_back(key.id) : bring_to(state, key.id);
    EXPECT_EQ(key.state, state);
    return key;
  }

 private:
  keyring::CmkRecord bring_back(const CmkId& id) {
    const auto copy = store_.row(id).record;
    store_.rows().erase(id);
    return *keyring_->adopt({&copy, 1}, actor_).at(0);
  }
  keyring::CmkRecord bring_to(keyring::KeyState state, const CmkId& id) {
    using keyring::KeyState;
    if (state == KeyState::kArchived) return *keyring_->archive(id, actor_);
    auto key = *keyring_->disable(id, actor_);
    if (state == KeyState::kDisabled) return key;
    key = *keyring_->schedule_deletion(id, 7, actor_);
    if (state == KeyState::kPendingDelete) return key;
    clock_.advance(std::chrono::days(7));
    EXPECT_THAT(run_due_for_sure(), Succeeds());
    return *keyring::CmkRecord::decode(store_.row(id).record);
  }
};

}  // namespace coffer::tests
