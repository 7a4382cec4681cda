// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/rewrap.h"

#include <algorithm>
#include <array>
#include <set>

#include "agent/unlock/choose_keys.h"
#include "agent/unlock/decide.h"
#include "agent/unlock/find_candidates.h"
#include "agent/unlock/scan_headers.h"
#include "core/luks2/token.h"

namespace coffer::agent {
namespace {

// The wraps of a token that are to be moved.
struct Plan {
  luks2::Token token;              // As it stands.
  std::vector<std::size_t> moved;  // Into its wraps.
  std::vector<keyring::Rewrapped> keys;
  std::set<std::uint32_t> from;  // Versions.
};

Result<Plan> plan_move(const UnlockTarget& target, const CmkId& key, std::uint32_t current) {
  const auto context = check_token(target.row, *target.header);
  if (!context) return tl::unexpected(context.error());
  Plan plan{.token = *target.header->token, .moved = {}, .keys = {}, .from = {}};
  for (std::size_t i = 0; i < plan.token.wraps.size(); ++i) {
    auto blob = keyring::WrappedKey::decode(plan.token.wraps[i]);
    if (!blob) return pass(blob.error(), "read wrap " + std::to_string(i) + " of the token");
    if (blob->cmk != key || blob->cmk_version == current) continue;
    plan.moved.push_back(i);
    plan.from.insert(blob->cmk_version);
    const keyring::KeyContext own = keyring::wrap_context(*context, i);
    plan.keys.push_back({.from = {.blob = std::move(*blob), .context = own}, .to = own});
  }
  return plan;
}

std::string versions_text(const std::set<std::uint32_t>& versions) {
  std::string text;
  for (const std::uint32_t version : versions) {
    text += (text.empty() ? "" : ", ") + std::to_string(version);
  }
  return text;
}

// The key's record, which the new wraps need, in the place of its older one.
void put_record(luks2::Token& token, const CmkId& key, const keyring::SealedRecord& sealed) {
  const auto is_its = [&](const Bytes& record) {
    const auto decoded = keyring::CmkRecord::decode(record);
    return decoded && decoded->id == key;
  };
  const auto found = std::find_if(token.records.begin(), token.records.end(), is_its);
  if (found != token.records.end()) {
    *found = sealed;
  } else {
    token.records.push_back(sealed);
  }
}

// One move under way: looks, and holds what it looked at until it goes.
class Mover {
 public:
  Mover(const VolumeRow& row, const RewrapCall& call, std::span<const Disk> disks,
        const LifeParts& parts)
      : row_(row), call_(call), disks_(disks), parts_(parts) {}

  Result<RewrapEnd> run() {
    const auto key = parts_.unlock.keyring.get(call_.key);
    if (!key) return tl::unexpected(key.error());
    auto seen = look();
    if (!seen) return tl::unexpected(seen.error());
    auto plan = plan_move(*seen, call_.key, key->current().number);
    if (!plan) return tl::unexpected(plan.error());

    const bool whole = seen->header->copies == luks2::Copies::kBoth;
    if (plan->moved.empty() && whole) {
      RewrapEnd end{row_, *seen->header, seen->device_bytes, "was on version "};
      end.note += std::to_string(key->current().number) + " already";
      // After a crash behind the exchange the row alone is late.
      if (const auto kept = store(end.row, plan->token); !kept) return tl::unexpected(kept.error());
      return end;
    }
    audit::Event event = event_of(call_.call, "volume.rewrap", row_.id);
    event.cmk = call_.key;
    event.cmk_version = key->current().number;
    event.text = row_.name + " on " + seen->device_path;
    if (!call_.call.reason_text.empty()) event.text += ": " + call_.call.reason_text;
    const auto intent = parts_.unlock.log.append_one(event);
    if (!intent) return tl::unexpected(intent.error());
    parts_.reached("intent");
    auto end = move(*seen, *plan);
    record_result(parts_.unlock.log, event, *intent,
                  end ? std::nullopt : std::optional(end.error()),
                  row_.name + (end ? " " + end->note : ""));
    return end;
  }

 private:
  // The volume's header as it stands now. Its device is let go with what is looked at next.
  Result<UnlockTarget> look() {
    UnlockBatch batch;
    batch.deadline = call_.call.deadline;
    batch.targets.emplace_back(row_, true);
    UnlockTarget& target = batch.targets.front();
    find_candidates(batch.targets, disks_);
    scan_headers(batch, parts_.unlock.worker);
    if (target.running()) {
      if (const auto chosen = choose_header(target); !chosen) target.fail_with(chosen.error());
    }
    release_unchosen(batch, parts_.unlock.worker);
    if (target.error) {
      release_chosen(batch, parts_.unlock.worker);
      return tl::unexpected(*target.error);
    }
    held_.emplace(parts_.unlock.worker, target.handle);
    return std::move(target);
  }

  // From the intent on.
  Result<RewrapEnd> move(const UnlockTarget& seen, Plan& plan) {
    std::string note;
    if (seen.header->copies != luks2::Copies::kBoth)
      note = "a damaged copy of its header made anew";
    if (!plan.moved.empty()) {
      const auto version = wrap_anew(plan);
      if (!version) return tl::unexpected(version.error());
      note = "moved from version " + versions_text(plan.from) + " to " + std::to_string(*version) +
             (note.empty() ? "" : "; " + note);
    }
    const auto json = luks2::print_token(plan.token);
    if (!json) return tl::unexpected(json.error());
    const auto written =
        parts_.unlock.worker.replace_token(seen.handle, *json, call_.call.deadline);
    if (!written) return tl::unexpected(written.error());
    parts_.reached("written");

    const auto stands = look();
    if (!stands) return pass(stands.error(), "read the new header back");
    if (stands->header->token != plan.token || stands->header->copies != luks2::Copies::kBoth) {
      return fail(Reason::kDeviceChanged, "the header is another one than was just written");
    }
    RewrapEnd end{row_, *stands->header, stands->device_bytes, note};
    if (const auto kept = store(end.row, plan.token); !kept) return tl::unexpected(kept.error());
    return end;
  }

  // Puts the new wraps and the record that goes with them into the plan's token. The version that
  // they are of now.
  Result<std::uint32_t> wrap_anew(Plan& plan) {
    const auto wraps = parts_.unlock.keyring.rewrap(call_.key, plan.keys, call_.call.actor);
    if (wraps.size() != plan.moved.size()) {
      return fail(Reason::kInternal, "the keyring gave no result");
    }
    std::uint32_t version = 0;
    for (std::size_t i = 0; i < wraps.size(); ++i) {
      if (!wraps[i]) return tl::unexpected(wraps[i].error());
      plan.token.wraps[plan.moved[i]] = wraps[i]->encode();
      version = wraps[i]->cmk_version;
    }
    // Read behind the wraps: it has the version that made them.
    const auto sealed = parts_.unlock.keyring.sealed_record(call_.key);
    if (!sealed) return tl::unexpected(sealed.error());
    put_record(plan.token, call_.key, *sealed);
    parts_.reached("wrapped");
    return version;
  }

  Result<void> store(VolumeRow& row, const luks2::Token& token) {
    if (row.wraps == token.wraps) return {};
    row.wraps = token.wraps;
    auto stored = parts_.registry.put(row);
    if (stored) parts_.reached("stored");
    return stored;
  }

  // A device that is let go when *this ends.
  struct Held {
    Held(Worker& of, DeviceHandle opened) : worker(of), handle(opened) {}
    ~Held() { worker.release({&handle, 1}); }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    Worker& worker;
    const DeviceHandle handle;
  };

  const VolumeRow& row_;
  const RewrapCall& call_;
  const std::span<const Disk> disks_;
  const LifeParts& parts_;
  std::optional<Held> held_;
};

}  // namespace

Result<RewrapEnd> rewrap_volume(const VolumeRow& row, const RewrapCall& call,
                                std::span<const Disk> disks, const LifeParts& parts) {
  auto end = Mover(row, call, disks, parts).run();
  if (!end) return pass(end.error(), "rewrap " + row.name);
  return end;
}

}  // namespace coffer::agent
