// SPDX-License-Identifier: Apache-2.0
// Keys that are made as shares under several CMKs.
#include <utility>

#include "core/keyring/keyring_core.h"

namespace coffer::keyring {
namespace {

Result<std::vector<SealedRecord>> read_records(KeyStore& store, std::span<const CmkId> ids) {
  std::vector<SealedRecord> records;
  for (const CmkId& id : ids) {
    auto stored = read_record(store, id);
    if (!stored) return tl::unexpected(stored.error());
    records.push_back(std::move(stored->sealed));
  }
  return records;
}

// The vault's answer is not believed to be about what was asked for.
Result<void> require_answers(const SharedDek& made, const SharedDekOrder& order) {
  KeyContext asked = order.request.context;
  asked.shares = made.context.shares;
  const auto sound = require_threshold(made.context, order.needed, order.keys.size());
  bool same = sound && made.context == asked && made.wraps.size() == order.keys.size();
  for (std::size_t i = 0; same && i < order.keys.size(); ++i) {
    same = made.wraps[i].cmk == order.keys[i];
  }
  if (same) return {};
  return fail(Reason::kHsmFailed, "the vault made another set of shares than it was asked for");
}

}  // namespace

Result<SharedDek> Keyring::make_shared_dek(const SharedDekOrder& order, const audit::Actor& actor,
                                           Deadline deadline) {
  if (order.request.intent == 0) {
    return fail(Reason::kAuditUnavailable, "make a key: no intent recorded");
  }
  SharedDekRequest request{.records = {},
                           .needed = order.needed,
                           .context = order.request.context,
                           .ticket = order.ticket,
                           .index = order.index};
  Error superseded(Reason::kInternal, "not tried");
  for (int attempt = 0; attempt < Core::kAttemptsMax; ++attempt) {
    for (const CmkId& id : order.keys) {
      if (auto uses = core_->take_uses(id, 1, actor, deadline); !uses) {
        return tl::unexpected(uses.error());
      }
    }
    auto records = read_records(core_->parts.store, order.keys);
    if (!records) return tl::unexpected(records.error());
    // Superseded, and the store has nothing newer.
    if (*records == request.records) break;
    request.records = std::move(*records);
    auto made = core_->parts.vault.make_shared_dek(request, deadline);
    if (made) {
      if (auto fits = require_answers(*made, order); !fits) return tl::unexpected(fits.error());
      return made;
    }
    if (made.error().reason() != Reason::kRecordSuperseded) return made;
    superseded = made.error();
  }
  return tl::unexpected(superseded);
}

}  // namespace coffer::keyring
