// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/fake_worker.h"

#include <algorithm>
#include <utility>

#include "core/luks2/token.h"

namespace coffer::tests {

using agent::Activated;
using agent::Emptiness;
using agent::ExpectedKey;
using agent::HeaderPresence;
using agent::HeaderPrint;
using agent::KeyOutcome;
using agent::Mapping;
using agent::MappingState;
using agent::ScanItem;
using agent::ScannedDevice;

FakeDisk& FakeWorker::plug(const std::string& path) {
  const Lock lock(mutex_);
  FakeDisk& disk = disks_[path];
  disk.identity.node = path.substr(path.rfind('/') + 1);
  disk.identity.major = 252;
  disk.identity.minor = static_cast<std::uint32_t>(disks_.size());
  disk.identity.size_bytes = std::uint64_t{1} << 30;
  return disk;
}

void FakeWorker::unplug(const std::string& path) {
  const Lock lock(mutex_);
  disks_.erase(path);
}

std::map<std::string, FakeDisk> FakeWorker::disks() const {
  const Lock lock(mutex_);
  return disks_;
}

void FakeWorker::restore(std::map<std::string, FakeDisk> disks) {
  const Lock lock(mutex_);
  disks_ = std::move(disks);
}

std::map<std::string, Mapping> FakeWorker::mappings() const {
  const Lock lock(mutex_);
  return mappings_;
}

void FakeWorker::set_open_count(const std::string& mapping, std::uint32_t count) {
  const Lock lock(mutex_);
  mappings_.at(mapping).open_count = count;
}

void FakeWorker::add_mapping(const Mapping& mapping) {
  const Lock lock(mutex_);
  mappings_[mapping.name] = mapping;
}

void FakeWorker::fail_next(const std::string& call, Reason reason) {
  const Lock lock(mutex_);
  failures_.insert_or_assign(call, Failure{.reason = reason, .once = true});
}

void FakeWorker::fail_every(const std::string& call, Reason reason) {
  const Lock lock(mutex_);
  failures_.insert_or_assign(call, Failure{.reason = reason, .once = false});
}

void FakeWorker::fail_always(Reason reason) {
  const Lock lock(mutex_);
  failing_always_ = reason;
}

void FakeWorker::succeed_again() {
  const Lock lock(mutex_);
  failing_always_.reset();
  failures_.clear();
}

void FakeWorker::cut_next_replacement() {
  const Lock lock(mutex_);
  cut_replacement_ = true;
}

void FakeWorker::hold(const std::string& call) {
  const Lock lock(mutex_);
  held_.insert(call);
}

void FakeWorker::let_go(const std::string& call) {
  const Lock lock(mutex_);
  held_.erase(call);
  changed_.notify_all();
}

bool FakeWorker::wait_called(const std::string& call, int count) {
  Lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return called_[call] >= count; });
}

int FakeWorker::called(const std::string& call) const {
  const Lock lock(mutex_);
  const auto found = called_.find(call);
  return found == called_.end() ? 0 : found->second;
}

int FakeWorker::delivered() const {
  const Lock lock(mutex_);
  return delivered_;
}

std::size_t FakeWorker::held() const {
  const Lock lock(mutex_);
  return handles_.size();
}

Result<FakeWorker::Lock> FakeWorker::begin(const std::string& call) {
  Lock lock(mutex_);
  ++called_[call];
  changed_.notify_all();
  changed_.wait(lock, [&] { return !held_.contains(call); });
  if (failing_always_) return fail(*failing_always_, call + " failed as the test asked");
  if (const auto found = failures_.find(call); found != failures_.end()) {
    const Failure failure = found->second;
    if (failure.once) failures_.erase(found);
    return fail(failure.reason, call + " failed as the test asked");
  }
  return lock;
}

Result<std::string> FakeWorker::path_of(Handle handle) const {
  const auto found = handles_.find(handle);
  if (found == handles_.end() || !disks_.contains(found->second)) {
    return fail(Reason::kDeviceChanged, "the device is not held");
  }
  return found->second;
}

Result<std::vector<Result<ScannedDevice>>> FakeWorker::scan(std::span<const ScanItem> items,
                                                            Deadline /*deadline*/) {
  const auto lock = begin("scan");
  if (!lock) return tl::unexpected(lock.error());
  std::vector<Result<ScannedDevice>> all;
  for (const ScanItem& item : items) {
    const auto data = disks_.find(item.device);
    const auto head = item.header_device.empty() ? data : disks_.find(item.header_device);
    if (data == disks_.end() || head == disks_.end()) {
      all.emplace_back(fail(Reason::kDeviceAbsent, item.device + " is not there"));
      continue;
    }
    ScannedDevice scanned;
    scanned.handle = ++last_handle_;
    handles_[scanned.handle] = item.device;
    scanned.device = data->second.identity;
    if (head != data) scanned.header_device = head->second.identity;
    if (head->second.header) {
      scanned.header = *head->second.header;
      headers_[scanned.handle] = {head->first, head->second.header->epoch};
    } else {
      scanned.header = tl::unexpected(head->second.header_error);
    }
    all.emplace_back(std::move(scanned));
  }
  return all;
}

void FakeWorker::release(std::span<const Handle> handles) noexcept {
  const Lock lock(mutex_);
  ++called_["release"];
  for (const Handle handle : handles) handles_.erase(handle);
}

FakeWorker::Expected* FakeWorker::find(const keyring::Ticket& ticket, std::uint32_t index) {
  const auto found = tickets_.find(ticket);
  if (found == tickets_.end()) return nullptr;
  for (Expected& expected : found->second) {
    if (expected.key.index == index) return &expected;
  }
  return nullptr;
}

Result<void> FakeWorker::expect(const keyring::Ticket& ticket, std::span<const ExpectedKey> keys,
                                Deadline /*deadline*/) {
  const auto lock = begin("expect");
  if (!lock) return tl::unexpected(lock.error());
  for (const ExpectedKey& key : keys) {
    const auto path = path_of(key.handle);
    if (!path) return tl::unexpected(path.error());
    const auto& header = disks_.at(*path).header;
    if (key.action != agent::Action::kFormat && (!header || header->profile != key.profile)) {
      return fail(Reason::kProfileMismatch, "uuid: " + *path + " has another header");
    }
  }
  auto& expected = tickets_[ticket];
  for (const ExpectedKey& key : keys) expected.push_back({key, {}, {}, {}, false, {}});
  return {};
}

Result<Activated> FakeWorker::activate(const ExpectedKey& key, const crypto::Sha256Digest& digest) {
  const auto path = path_of(key.handle);
  if (!path) return tl::unexpected(path.error());
  const FakeDisk& disk = disks_.at(*path);
  if (disk.key_digest != digest) return fail(Reason::kWrongKey, "not the key of " + *path);
  if (key.action == agent::Action::kVerify) return Activated{};
  const VolumeId volume(key.profile.uuid);
  if (const auto found = mappings_.find(key.mapping); found != mappings_.end()) {
    const bool ours = found->second.volume == volume && found->second.marked;
    return fail(ours ? Reason::kAlreadyUnlocked : Reason::kMappingForeign, key.mapping);
  }
  Mapping mapping;
  mapping.name = key.mapping;
  mapping.volume = volume;
  mapping.dm_uuid = "CRYPT-LUKS2-" + key.mapping;
  mapping.minor = ++last_minor_;
  mapping.node = "dm-" + std::to_string(mapping.minor);
  mapping.backing_major = disk.identity.major;
  mapping.backing_minor = disk.identity.minor;
  mapping.marked = true;
  mappings_[mapping.name] = mapping;
  Activated activated;
  activated.node = mapping.node;
  activated.dm_uuid = mapping.dm_uuid;
  activated.minor = mapping.minor;
  activated.usable_boot_usec = static_cast<std::uint64_t>(system_clock().since_boot().count());
  return activated;
}

Result<void> FakeWorker::deliver(const keyring::Ticket& ticket, std::uint32_t index,
                                 const keyring::DekLabel& label, const SecretBytes& dek, Deadline) {
  const auto lock = begin("deliver");
  if (!lock) return tl::unexpected(lock.error());
  Expected* expected = find(ticket, index);
  if (expected == nullptr) return fail(Reason::kTicketUnknown, "nobody expects this key");
  ++delivered_;
  std::optional<SecretBytes> whole;
  if (label.share) {
    auto copy = SecretBytes::copy_of(dek.reveal());
    auto key = expected->shares.add(*label.share, label.profile_digest, std::move(*copy));
    if (!key) {
      if (key.error().reason() == Reason::kWrongKey)
        expected->outcome = tl::unexpected(key.error());
      return tl::unexpected(key.error());
    }
    if (!*key) return {};
    whole = std::move(*key);
  }
  const crypto::Sha256Digest digest = crypto::sha256((whole ? *whole : dek).reveal());
  if (label.profile_digest != luks2::profile_digest(expected->key.profile)) {
    expected->outcome = fail(Reason::kProfileMismatch, "vault and agent differ");
  } else if (expected->key.action == agent::Action::kFormat) {
    expected->kept = digest;
    expected->outcome = Activated{};
  } else {
    expected->outcome = activate(expected->key, digest);
  }
  changed_.notify_all();
  return {};
}

Result<void> FakeWorker::wait_results(const keyring::Ticket& ticket,
                                      const std::function<void(KeyOutcome)>& each,
                                      Deadline deadline) {
  auto lock = begin("wait_results");
  if (!lock) return tl::unexpected(lock.error());
  while (true) {
    const auto found = tickets_.find(ticket);
    if (found == tickets_.end()) return {};
    Expected* next = nullptr;
    bool all_told = true;
    for (Expected& expected : found->second) {
      if (expected.told) continue;
      all_told = false;
      if (expected.outcome) next = &expected;
    }
    if (all_told) return {};
    if (next != nullptr) {
      next->told = true;
      KeyOutcome outcome{next->key.index, *next->outcome};
      lock->unlock();
      each(std::move(outcome));
      lock->lock();
      continue;
    }
    if (failing_always_) return fail(*failing_always_, "the worker went away");
    const auto wait = std::min(deadline.left(), std::chrono::milliseconds(20));
    changed_.wait_for(*lock, wait);
    if (deadline.passed()) return fail(Reason::kTimedOut, "no key came");
  }
}

void FakeWorker::cancel(const keyring::Ticket& ticket) noexcept {
  const Lock lock(mutex_);
  ++called_["cancel"];
  const auto found = tickets_.find(ticket);
  if (found == tickets_.end()) return;
  for (Expected& expected : found->second) {
    expected.kept.reset();
    if (!expected.outcome) expected.outcome = fail(Reason::kCancelled, "given up");
  }
  changed_.notify_all();
}

Result<std::vector<Mapping>> FakeWorker::list_mappings(Deadline /*deadline*/) {
  const auto lock = begin("list_mappings");
  if (!lock) return tl::unexpected(lock.error());
  std::vector<Mapping> all;
  for (auto& [name, mapping] : mappings_) {
    mapping.device_gone = is_gone(mapping);
    all.push_back(mapping);
  }
  return all;
}

bool FakeWorker::is_gone(const Mapping& mapping) const {
  return std::none_of(disks_.begin(), disks_.end(), [&](const auto& entry) {
    return entry.second.identity.minor == mapping.backing_minor;
  });
}

Result<void> FakeWorker::deactivate(const std::string& mapping, const VolumeId& volume,
                                    agent::DeactivateMode mode, Deadline /*deadline*/) {
  const auto lock = begin("deactivate");
  if (!lock) return tl::unexpected(lock.error());
  const auto found = mappings_.find(mapping);
  if (found == mappings_.end()) return fail(Reason::kNotUnlocked, mapping + " is not open");
  if (found->second.volume != volume) return fail(Reason::kMappingForeign, mapping);
  if (found->second.open_count == 0) {
    mappings_.erase(found);
    return {};
  }
  if (mode == agent::DeactivateMode::kPlain) {
    return fail(Reason::kBusy, mapping + " is mounted on /srv");
  }
  found->second.deferred = true;
  if (mode == agent::DeactivateMode::kForce) found->second.state = MappingState::kErrorTarget;
  return {};
}

Result<std::vector<Mapping>> FakeWorker::clean_mappings(Deadline /*deadline*/) {
  const auto lock = begin("clean_mappings");
  if (!lock) return tl::unexpected(lock.error());
  std::vector<Mapping> cleaned;
  for (auto at = mappings_.begin(); at != mappings_.end();) {
    Mapping& mapping = at->second;
    const bool gone = is_gone(mapping);
    if (!gone && mapping.state != MappingState::kNoTable) {
      ++at;
      continue;
    }
    mapping.device_gone = gone;
    mapping.deferred = true;
    cleaned.push_back(mapping);
    at = mapping.open_count == 0 ? mappings_.erase(at) : std::next(at);
  }
  return cleaned;
}

Result<Emptiness> FakeWorker::check_empty(Handle handle, Deadline /*deadline*/) {
  const auto lock = begin("check_empty");
  if (!lock) return tl::unexpected(lock.error());
  const auto path = path_of(handle);
  if (!path) return tl::unexpected(path.error());
  const FakeDisk& disk = disks_.at(*path);
  if (disk.header) return Emptiness{false, "a LUKS2 header on " + *path, "yes-header"};
  if (!disk.foreign.empty()) return Emptiness{false, disk.foreign, "yes-" + disk.foreign};
  return Emptiness{true, "", "yes-empty"};
}

Result<agent::BuiltHeader> FakeWorker::build_header(const keyring::Ticket& ticket,
                                                    std::uint32_t index, const std::string& label,
                                                    const std::string& token_json,
                                                    Deadline /*deadline*/) {
  const auto lock = begin("build_header");
  if (!lock) return tl::unexpected(lock.error());
  Expected* expected = find(ticket, index);
  if (expected == nullptr || !expected->kept) return fail(Reason::kTicketUnknown, "no key kept");
  const auto token = luks2::parse_token(token_json);
  if (!token) return tl::unexpected(token.error());
  luks2::CheckedHeader header;
  header.uuid = expected->key.profile.uuid;
  header.label = label;
  header.subsystem = "coffer";
  header.metadata_bytes = expected->key.profile.metadata_bytes;
  header.profile = expected->key.profile;
  header.token = *token;
  expected->built_header = header;
  const auto print = expected->kept.value();
  return agent::BuiltHeader{print, HeaderPrint(print.begin(), print.end()), header};
}

Result<void> FakeWorker::write_header(const keyring::Ticket& ticket, std::uint32_t index,
                                      const std::string& confirmation, Deadline /*deadline*/) {
  const auto lock = begin("write_header");
  if (!lock) return tl::unexpected(lock.error());
  Expected* expected = find(ticket, index);
  if (expected == nullptr || !expected->built_header) {
    return fail(Reason::kTicketUnknown, "no header built");
  }
  const auto path = path_of(expected->key.handle);
  if (!path) return tl::unexpected(path.error());
  FakeDisk& disk = disks_.at(*path);
  const std::string found = disk.header ? "header" : disk.foreign;
  if (!found.empty() && confirmation.empty()) return fail(Reason::kForeignData, found);
  if (!found.empty() && confirmation != "yes-" + found) {
    return fail(Reason::kConfirmMismatch, found);
  }
  disk.header = expected->built_header;
  disk.key_digest = expected->kept;
  disk.foreign.clear();
  ++disk.writes;
  return {};
}

Result<HeaderPresence> FakeWorker::check_written(Handle handle, const HeaderPrint& print,
                                                 Deadline /*deadline*/) {
  const auto lock = begin("check_written");
  if (!lock) return tl::unexpected(lock.error());
  const auto path = path_of(handle);
  if (!path) return tl::unexpected(path.error());
  const auto& digest = disks_.at(*path).key_digest;
  const bool same =
      digest && std::equal(print.begin(), print.end(), digest->begin(), digest->end());
  return same ? HeaderPresence::kWhole : HeaderPresence::kNone;
}

Result<HeaderPresence> FakeWorker::wipe_header(Handle handle, const HeaderPrint& print,
                                               Deadline deadline) {
  const auto presence = check_written(handle, print, deadline);
  const auto lock = begin("wipe_header");
  if (!lock) return tl::unexpected(lock.error());
  if (!presence || *presence == HeaderPresence::kNone) return presence;
  FakeDisk& disk = disks_.at(*path_of(handle));
  disk.header.reset();
  disk.key_digest.reset();
  ++disk.writes;
  return presence;
}

Result<void> FakeWorker::replace_token(Handle handle, const std::string& token_json,
                                       Deadline /*deadline*/) {
  const auto lock = begin("replace_token");
  if (!lock) return tl::unexpected(lock.error());
  const auto token = luks2::parse_token(token_json);
  if (!token) return tl::unexpected(token.error());
  if (const auto path = path_of(handle); !path) return tl::unexpected(path.error());
  const HeaderAt scanned = headers_[handle];
  FakeDisk& disk = disks_.at(scanned.path);
  if (!disk.header || disk.header->epoch != scanned.epoch) {
    return fail(Reason::kDeviceChanged, "the header was changed meanwhile");
  }
  if (token_json.size() > disk.token_bytes_max) return fail(Reason::kTokenSpace, "it is full");
  disk.header->token = *token;
  ++disk.header->epoch;
  ++disk.writes;
  const bool cut = std::exchange(cut_replacement_, false);
  disk.header->copies = cut ? luks2::Copies::kSecondaryBad : luks2::Copies::kBoth;
  if (cut) return fail(Reason::kWorkerLost, "cut off between the copies");
  return {};
}

Result<void> FakeWorker::make_file_system(const std::string& mapping, const VolumeId& volume,
                                          const std::string& type, const std::string& /*label*/,
                                          Deadline /*deadline*/) {
  const auto lock = begin("make_file_system");
  if (!lock) return tl::unexpected(lock.error());
  const auto found = mappings_.find(mapping);
  if (found == mappings_.end()) return fail(Reason::kNotUnlocked, mapping);
  if (found->second.volume != volume) return fail(Reason::kMappingForeign, mapping);
  for (auto& [path, disk] : disks_) {
    if (disk.identity.minor == found->second.backing_minor) disk.file_system = type;
  }
  return {};
}

}  // namespace coffer::tests
