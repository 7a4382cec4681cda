// SPDX-License-Identifier: Apache-2.0
// Keys that are made as shares under several CMKs (decision 0150).
#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/keyring/key_shares.h"
#include "hsm/ruled_vault_core.h"

namespace coffer::hsm {

using keyring::SharedDek;
using keyring::SharedDekRequest;

namespace {

Result<void> require_sound(const SharedDekRequest& request) {
  const keyring::KeyShares numbers{.needed = request.needed,
                                   .total = static_cast<std::uint8_t>(request.records.size())};
  if (request.records.size() > keyring::KeyShares::kTotalMax || !numbers.valid()) {
    return fail(Reason::kInvalidArgs,
                "a key is split among 2 to 8 keys, of which 2 to all open it");
  }
  if (request.context.shares) {
    return fail(Reason::kInvalidArgs, "a key that is to be split has no shares yet");
  }
  return require_context(request.context, PurposeRule::kVolumeOnly);
}

Result<void> require_different(std::span<const CmkRecord> records) {
  std::set<CmkId> seen;
  for (const CmkRecord& record : records) {
    if (!seen.insert(record.id).second) {
      return fail(Reason::kInvalidArgs,
                  "key " + record.id.str() + " can have one share of a volume's key, not two");
    }
  }
  return {};
}

}  // namespace

Result<SharedDek> RuledVault::make_shared_dek(const SharedDekRequest& request, Deadline deadline) {
  return core_->make_shared_dek(request, deadline);
}

Result<SharedDek> RuledVault::Core::make_shared_dek(const SharedDekRequest& request,
                                                    Deadline deadline) {
  if (auto sound = require_sound(request); !sound) return tl::unexpected(sound.error());
  std::vector<CmkRecord> records;
  const auto give_back = [&](const Error& error) {
    for (const CmkRecord& record : records) give_back_uses(record, 1);
    return tl::unexpected(error);
  };
  for (const SealedRecord& sealed : request.records) {
    auto record = open_to_wrap(sealed, 1);
    if (!record) return give_back(record.error());
    records.push_back(std::move(*record));
  }
  if (auto different = require_different(records); !different) return give_back(different.error());
  const auto dek = draw_dek(request.context);
  if (!dek) return give_back(dek.error());

  // From here on the uses are taken: a wrap that fails half-way may have used its nonce.
  auto made = wrap_shares(request, records, *dek, deadline);
  if (!made) return made;
  // Delivered last: the worker is given only keys whose wraps exist.
  const auto taken = parts.sink.deliver(request.ticket, request.index, label_of(request.context),
                                        *dek, hand_over_by(deadline));
  if (!taken) return pass(taken.error(), "deliver a new key");
  return made;
}

Result<SharedDek> RuledVault::Core::wrap_shares(const SharedDekRequest& request,
                                                std::span<const CmkRecord> records,
                                                const SecretBytes& dek, Deadline deadline) {
  auto split = keyring::split_key(dek, request.context.profile_digest, request.needed,
                                  static_cast<std::uint8_t>(records.size()));
  if (!split) return tl::unexpected(split.error());
  SharedDek made{.context = request.context, .wraps = {}};
  made.context.shares = split->set;
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (deadline.passed(parts.clock)) {
      return fail(Reason::kHsmTimeout,
                  "the time for the call was over before all shares were made");
    }
    auto wrap =
        encrypt(records[i], split->shares[i].reveal(), keyring::wrap_context(made.context, i));
    if (!wrap) return tl::unexpected(wrap.error());
    made.wraps.push_back(std::move(*wrap));
  }
  return made;
}

}  // namespace coffer::hsm
