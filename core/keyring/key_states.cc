// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/key_states.h"

#include <string>

namespace coffer::keyring {

tl::unexpected<Error> refused_by_state(const CmkRecord& record, std::string_view doing) {
  const auto because = [&](Reason reason) {
    return fail(reason, std::string(doing) + " key " + record.id.str() + " ('" + record.alias +
                            "'): it is " + std::string(key_state_name(record.state)));
  };
  switch (record.state) {
    case KeyState::kDisabled:
      return because(Reason::kKeyDisabled);
    case KeyState::kArchived:
      return because(Reason::kKeyArchived);
    case KeyState::kPendingImport:
      return because(Reason::kKeyPendingImport);
    case KeyState::kPendingDelete:
      return because(Reason::kKeyPendingDeletion);
    case KeyState::kDestroyed:
      return because(Reason::kNoSuchKey);
    case KeyState::kEnabled:
      break;
  }
  return because(Reason::kInvalidArgs);
}

Result<void> require_state(const CmkRecord& record, KeyState wanted, std::string_view doing) {
  if (record.state == wanted) return {};
  return refused_by_state(record, doing);
}

}  // namespace coffer::keyring
