// SPDX-License-Identifier: Apache-2.0
#include "agent/unlock/announce_keys.h"

namespace coffer::agent {
namespace {

using luks2::ConfigFlags;

bool has_flag(ConfigFlags flags, ConfigFlags flag) {
  return (static_cast<std::uint32_t>(flags) & static_cast<std::uint32_t>(flag)) != 0;
}

ExpectedKey expected_key(const UnlockBatch& batch, const UnlockTarget& target,
                         std::uint32_t index) {
  ExpectedKey key;
  key.index = index;
  key.handle = target.handle;
  key.action = batch.action;
  key.mapping = target.row.mapped_name;
  key.profile = *target.profile;
  key.read_only = batch.read_only;
  key.allow_discards = has_flag(key.profile.flags, ConfigFlags::kAllowDiscards);
  key.no_read_workqueue = has_flag(key.profile.flags, ConfigFlags::kNoReadWorkqueue);
  key.no_write_workqueue = has_flag(key.profile.flags, ConfigFlags::kNoWriteWorkqueue);
  return key;
}

Result<void> announce(UnlockBatch& batch, const std::vector<std::size_t>& members, Worker& worker) {
  const auto ticket = keyring::draw_ticket();
  if (!ticket) return tl::unexpected(ticket.error());
  std::vector<ExpectedKey> keys;
  for (std::size_t i = 0; i < members.size(); ++i) {
    keys.push_back(expected_key(batch, batch.targets[members[i]], static_cast<std::uint32_t>(i)));
  }
  if (const auto expected = worker.expect(*ticket, keys, batch.deadline); !expected) {
    return expected;
  }
  for (const std::size_t member : members) batch.targets[member].announced = true;
  batch.groups.push_back({.ticket = *ticket, .members = members});
  return {};
}

// Errors that are about the worker or the time, not about one of the volumes.
bool is_about_all(Reason reason) {
  return reason == Reason::kWorkerLost || reason == Reason::kTimedOut ||
         reason == Reason::kCancelled || reason == Reason::kInternal;
}

}  // namespace

void announce_keys(UnlockBatch& batch, Worker& worker) {
  std::vector<std::size_t> members;
  for (std::size_t at = 0; at < batch.targets.size(); ++at) {
    if (batch.targets[at].running()) members.push_back(at);
  }
  for (std::size_t from = 0; from < members.size(); from += kExpectItemsMax) {
    const auto begin = members.begin() + static_cast<std::ptrdiff_t>(from);
    const std::size_t count = std::min(kExpectItemsMax, members.size() - from);
    const std::vector<std::size_t> chunk(begin, begin + static_cast<std::ptrdiff_t>(count));
    const auto announced = announce(batch, chunk, worker);
    if (announced) continue;
    for (const std::size_t member : chunk) {
      const bool alone = chunk.size() == 1 || is_about_all(announced.error().reason());
      const auto single = alone ? announced : announce(batch, {member}, worker);
      if (!single) batch.targets[member].fail_with(single.error());
    }
  }
}

}  // namespace coffer::agent
