// SPDX-License-Identifier: Apache-2.0
#include "agent/unlock/choose_keys.h"

#include <algorithm>

namespace coffer::agent {
namespace {

Result<void> require_state(const keyring::CmkRecord& key) {
  const std::string name = key_name(key.id);
  switch (key.state) {
    case keyring::KeyState::kEnabled:
    case keyring::KeyState::kArchived:
      return {};
    case keyring::KeyState::kDisabled:
      return fail(Reason::kKeyDisabled, name + " is disabled");
    case keyring::KeyState::kPendingImport:
      return fail(Reason::kKeyPendingImport, name + " has no material yet");
    case keyring::KeyState::kPendingDelete:
      return fail(Reason::kKeyPendingDeletion, name + " is scheduled for deletion");
    case keyring::KeyState::kDestroyed:
      return fail(Reason::kNoSuchKey, name + " is destroyed");
  }
  return fail(Reason::kInternal, name + " is in an unknown state");
}

Result<void> require_usable(const keyring::WrappedKey& blob, const keyring::Keyring& keyring) {
  const auto key = keyring.get(blob.cmk);
  if (!key) return tl::unexpected(key.error());
  if (auto usable = require_state(*key); !usable) return usable;
  const keyring::KeyVersion* version = key->find_version(blob.cmk_version);
  const bool destroyed = version != nullptr && version->state == keyring::VersionState::kDestroyed;
  // Versions before the first one were destroyed. One that is not there yet is for the vault to
  // judge, which knows whether this store was put back.
  if (!destroyed && blob.cmk_version >= key->versions.front().number) return {};
  return fail(Reason::kBlobInvalid, "version " + std::to_string(blob.cmk_version) + " of " +
                                        key_name(blob.cmk) + " is destroyed");
}

// The generations that the host's state allows: its own, and the next while a change is open.
Result<void> require_generation(const VolumeRow& row, std::uint64_t found) {
  if (found == row.generation) return {};
  if (row.pending_generation != 0 && found == row.pending_generation) return {};
  const std::string numbers = "the header's key is of generation " + std::to_string(found) +
                              ", the host knows " + std::to_string(row.generation);
  return fail(found < row.generation ? Reason::kHeaderRolledBack : Reason::kWrongGeneration,
              numbers);
}

Result<keyring::KeyContext> require_context(const VolumeRow& row, const luks2::Token& token) {
  const auto found = keyring::KeyContext::decode(token.context);
  if (!found) return pass(found.error(), "read the token's context");
  auto expected = keyring::KeyContext::decode(row.context);
  if (!expected) return fail(Reason::kStoreDamaged, "the registry holds no context");
  // Told apart from a context of another volume: the generation was checked before.
  expected->generation = token.generation;
  if (const auto same = keyring::require_same(*expected, *found); !same) {
    return pass(same.error(), "compare the token with the registry");
  }
  if (auto fits = keyring::require_threshold(*found, token.threshold, token.wraps.size()); !fits) {
    return tl::unexpected(fits.error());
  }
  return *found;
}

}  // namespace

std::string key_name(const CmkId& id) {
  return "key " + id.str();
}

Error not_enough_keys(const KeyChoice& keys, std::span<const SkippedKey> missing) {
  const std::size_t all = keys.usable.size() + keys.skipped.size();
  if (all == 1 && !missing.empty()) return missing.front().why;
  const std::size_t can = all - missing.size();
  std::string text = std::to_string(keys.needed) + " of the volume's " + std::to_string(all) +
                     " keys must open it, " + std::to_string(can) + " can";
  std::string_view before = ": ";
  for (const SkippedKey& one : missing) {
    text.append(before).append(one.name).append(" ").append(one.why.name());
    before = "; ";
  }
  // Where it opens once what may pass has passed, it is tried again, which a threshold would not
  // be.
  const auto may_pass = [](const SkippedKey& one) { return one.why.code() == Errc::kUnavailable; };
  const auto passing = std::ranges::find_if(missing, may_pass);
  const auto count = static_cast<std::size_t>(std::ranges::count_if(missing, may_pass));
  if (count == 0 || can + count < keys.needed) return {Reason::kThresholdNotMet, text};
  return {passing->why.reason(), text + ": " + passing->why.message()};
}

Result<keyring::KeyContext> check_token(const VolumeRow& row, const luks2::CheckedHeader& header) {
  if (!header.token) {
    if (header.token_refusal) return tl::unexpected(header.token_refusal->error());
    return fail(Reason::kTokenMissing, "the header has no token of type coffer");
  }
  if (const auto current = require_generation(row, header.token->generation); !current) {
    return tl::unexpected(current.error());
  }
  return require_context(row, *header.token);
}

Result<KeyChoice> choose_keys(const VolumeRow& row, const luks2::CheckedHeader& header,
                              const keyring::Keyring& keyring) {
  const auto context = check_token(row, header);
  if (!context) return tl::unexpected(context.error());
  const luks2::Token& token = *header.token;

  KeyChoice choice{.needed = token.threshold};
  for (std::size_t place = 0; place < token.wraps.size(); ++place) {
    auto blob = keyring::WrappedKey::decode(token.wraps[place]);
    if (!blob) {
      choice.skipped.push_back({"wrap " + std::to_string(place + 1), blob.error()});
      continue;
    }
    if (const auto usable = require_usable(*blob, keyring); !usable) {
      choice.skipped.push_back({key_name(blob->cmk), usable.error()});
      continue;
    }
    choice.usable.push_back({std::move(*blob), keyring::wrap_context(*context, place)});
  }
  if (choice.usable.size() < choice.needed) {
    return tl::unexpected(not_enough_keys(choice, choice.skipped));
  }
  return choice;
}

}  // namespace coffer::agent
