// SPDX-License-Identifier: Apache-2.0
// Keys of the simulated engine: entries in memory. What is "encrypted" stays here, under a number
// that the blob carries.
#include <algorithm>
#include <utility>

#include "core/base/encoding.h"
#include "core/base/sealed_secret.h"
#include "core/keyring/key_states.h"
#include "core/keyring/key_transitions.h"
#include "tests/fakes/sim_engine.h"

namespace coffer::tests {
namespace {

using agent::KeyInfo;
using keyring::CallerBlob;
using keyring::CmkChange;
using keyring::CmkRecord;
using keyring::KeyState;

constexpr auto kDay = std::chrono::hours(24);

void add_version(CmkRecord& record) {
  record.versions.back().state = keyring::VersionState::kDecryptOnly;
  keyring::KeyVersion next;
  next.number = record.versions.back().number + 1;
  next.created = system_clock().wall();
  record.versions.push_back(next);
}

void schedule(CmkRecord& record, std::uint32_t days) {
  record.state = KeyState::kPendingDelete;
  record.delete_at = system_clock().wall() + kDay * days;
}

// What each change leaves. Which of them a state allows is the keyring's business, not a fake's.
void apply(CmkRecord& record, const CmkChange& change) {
  switch (change.kind) {
    case CmkChange::kEnable:
    case CmkChange::kCancelArchive:
      record.state = KeyState::kEnabled;
      break;
    case CmkChange::kDisable:
      record.state = KeyState::kDisabled;
      break;
    case CmkChange::kArchive:
      record.state = KeyState::kArchived;
      break;
    case CmkChange::kScheduleDeletion:
      schedule(record, change.days);
      break;
    case CmkChange::kCancelDeletion:
      record.state = KeyState::kDisabled;
      record.delete_at.reset();
      break;
    case CmkChange::kRotate:
      add_version(record);
      break;
    case CmkChange::kSetRotation:
      record.rotation_days = change.days;
      record.next_rotation.reset();
      if (change.days > 0) record.next_rotation = system_clock().wall() + kDay * change.days;
      break;
    case CmkChange::kDescribe:
      if (change.alias) record.alias = *change.alias;
      if (change.description) record.description = *change.description;
      break;
    case CmkChange::kDeleteMaterial:
      record.state = KeyState::kPendingImport;
      record.material_valid_to.reset();
      break;
    case CmkChange::kDestroyVersion:
      for (auto& version : record.versions) {
        if (version.number == change.version) version.state = keyring::VersionState::kDestroyed;
      }
      break;
    case CmkChange::kSetValidTo:
      record.material_valid_to = change.time;
      break;
    default:
      break;
  }
}

bool matches(const KeyInfo& key, const keyring::KeyFilter& filter) {
  const CmkRecord& record = key.record;
  const bool has_tags = std::ranges::all_of(filter.tags, [&](const auto& named) {
    return std::ranges::any_of(filter.tags, [&](const auto& tag) {
      return tag.name == named.name && std::ranges::find(key.tags, tag) != key.tags.end();
    });
  });
  return has_tags && (!filter.state || *filter.state == record.state) &&
         (!filter.owner || *filter.owner == record.owner) &&
         (!filter.origin || *filter.origin == record.origin) &&
         (!filter.usage || *filter.usage == record.usage) &&
         (!filter.algorithm || *filter.algorithm == record.algorithm) &&
         (record.alias.find(filter.search) != std::string::npos ||
          record.id.str().find(filter.search) != std::string::npos);
}

}  // namespace

CmkId SimEngine::add_key(const std::string& alias) {
  KeyInfo key{.record = {.id = *CmkId::random()}};
  key.record.alias = alias;
  key.record.created = system_clock().wall();
  key.record.changed = key.record.created;
  keyring::KeyVersion first;
  first.created = key.record.created;
  key.record.versions.push_back(first);
  const auto id = key.record.id;
  keys_.emplace(id, std::move(key));
  if (observer_ != nullptr) observer_->key_added(id);
  return id;
}

CmkId SimEngine::add_signing_key(const std::string& alias, keyring::KeyAlgorithm algorithm,
                                 Bytes public_key, Signer signer) {
  const auto id = add_key(alias);
  change_record(id, [&](CmkRecord& record) {
    record.algorithm = algorithm;
    record.usage = keyring::KeyUsage::kSignVerify;
    record.versions.back().public_key = std::move(public_key);
  });
  signers_.emplace(id, std::move(signer));
  return id;
}

void SimEngine::change_record(const CmkId& id, const std::function<void(CmkRecord&)>& change) {
  auto& record = keys_.at(id).record;
  change(record);
  ++record.revision;
  if (observer_ != nullptr) observer_->key_changed(id);
}

void SimEngine::remove_key(const CmkId& id) {
  if (keys_.erase(id) > 0 && observer_ != nullptr) observer_->key_removed(id);
}

std::vector<KeyInfo> SimEngine::keys() const {
  std::vector<KeyInfo> all;
  all.reserve(keys_.size());
  for (const auto& [id, key] : keys_) all.push_back(key);
  return all;
}

Result<KeyInfo> SimEngine::key(const std::string& id_or_alias) const {
  for (const auto& [id, key] : keys_) {
    if (id.str() == id_or_alias || key.record.alias == id_or_alias) return key;
  }
  return fail(Reason::kNoSuchKey, "no key " + id_or_alias);
}

void SimEngine::list_keys(const keyring::KeyQuery& query, Done<std::vector<KeyInfo>> done) {
  if (failed(done)) return;
  if (const auto good = keyring::require_filter(query.filter); !good)
    return done(tl::unexpected(good.error()));
  std::vector<KeyInfo> found;
  for (const auto& [id, key] : keys_) {
    if (matches(key, query.filter)) found.push_back(key);
  }
  if (query.order != keyring::KeyOrder::kById) {
    std::ranges::sort(
        found, {}, [](const KeyInfo& key) { return std::pair(key.record.created, key.record.id); });
    if (query.order == keyring::KeyOrder::kNewestFirst) std::ranges::reverse(found);
  }
  if (query.after) {
    const auto is_last = [&](const KeyInfo& key) { return key.record.id == *query.after; };
    const auto last = std::ranges::find_if(found, is_last);
    found.erase(found.begin(), last == found.end() ? last : std::next(last));
  }
  const auto skipped = std::min<std::size_t>(query.offset, found.size());
  found.erase(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(skipped));
  while (found.size() > query.count_max) found.pop_back();
  later([found = std::move(found), done = std::move(done)] { done(found); });
}

void SimEngine::count_keys(const keyring::KeyFilter& filter, Done<std::uint64_t> done) {
  if (failed(done)) return;
  const auto count = std::ranges::count_if(
      keys_, [&](const auto& entry) { return matches(entry.second, filter); });
  later([all = static_cast<std::uint64_t>(count) + damaged_keys_, done = std::move(done)] {
    done(all);
  });
}

void SimEngine::create_key(const keyring::CmkParameters& parameters, const agent::Caller& caller,
                           Done<KeyInfo> done) {
  if (failed(done)) return;
  const auto& alias = parameters.alias;
  if (const auto valid = keyring::require_alias(alias); !valid)
    return done(tl::unexpected(valid.error()));
  if (key(alias)) return done(fail(Reason::kNameTaken, "a key is already called " + alias));
  if (!keyring::fits(parameters.algorithm, parameters.usage))
    return done(fail(Reason::kInvalidArgs, "no such usage of that algorithm"));
  effect("key.create", alias, caller);
  later([this, parameters, done = std::move(done)] {
    const auto id = add_key(parameters.alias);
    change_record(id, [&](CmkRecord& record) {
      record.description = parameters.description;
      record.algorithm = parameters.algorithm;
      record.usage = parameters.usage;
      record.protection = parameters.protection.value_or(keyring::Protection::kWrapped);
      record.origin = parameters.origin;
      if (parameters.origin == keyring::KeyOrigin::kImported)
        record.state = KeyState::kPendingImport;
      else if (!keyring::is_symmetric(parameters.algorithm))
        record.versions.back().public_key = *from_hex("3000");
    });
    done(keys_.at(id));
  });
}

void SimEngine::edit_key(const CmkId& id, const std::string& what, const agent::Caller& caller,
                         const Done<void>& done, const std::function<void(KeyInfo&)>& change) {
  if (failed(done)) return;
  if (!keys_.contains(id)) return done(fail(Reason::kNoSuchKey, "no key " + id.str()));
  effect(what, keys_.at(id).record.alias, caller);
  later([this, id, done, change] {
    if (!keys_.contains(id)) return done(fail(Reason::kNoSuchKey, "no key " + id.str()));
    change(keys_.at(id));
    change_record(id, [](CmkRecord&) {});
    done({});
  });
}

void SimEngine::change_key(const CmkId& id, const agent::KeyChange& change,
                           const agent::Caller& caller, Done<void> done) {
  const auto found = keys_.find(id);
  const bool used = found != keys_.end() && found->second.volume_count > 0;
  if (!next_failure_ && used && !change.force && keyring::takes_key_away(change.change))
    return done(fail(Reason::kKeyBound, "volumes use the key"));
  edit_key(id, keyring::change_operation(change.change), caller, done,
           [change](KeyInfo& key) { apply(key.record, change.change); });
}

Result<agent::JobId> SimEngine::rewrap_all(const CmkId& id, const agent::RewrapOptions& options,
                                           const agent::Caller& caller) {
  if (next_failure_) return tl::unexpected(*std::exchange(next_failure_, std::nullopt));
  const auto uses = [&](const agent::VolumeKey& used) { return used.cmk == id; };
  std::vector<VolumeId> ids;
  for (const auto& [volume_id, volume] : volumes_) {
    if (std::ranges::any_of(volume.keys, uses)) ids.push_back(volume_id);
  }
  last_rewrap_ = options;
  const auto version = keys_.at(id).record.current().number;
  return start(
      "rewrap", ids, agent::VolumeState::kAbsent, caller, [id, version](agent::VolumeInfo& volume) {
        for (auto& used : volume.keys) {
          if (used.cmk == id) used.version = version;
        }
        return agent::JobTable::Outcome{.note = "moved to version " + std::to_string(version)};
      });
}

void SimEngine::set_key_tags(const CmkId& id, const std::vector<keyring::KeyTag>& tags,
                             const agent::Caller& caller, Done<void> done) {
  if (const auto good = keyring::require_tags(tags); !good) return done(good);
  edit_key(id, "key.tag", caller, done, [tags](KeyInfo& key) {
    key.tags = tags;
    std::ranges::sort(key.tags);
  });
}

void SimEngine::set_key_bound(const CmkId& id, const std::string& resource, bool bound,
                              const agent::Caller& caller, Done<void> done) {
  if (!next_failure_ && !bound && !bindings_[id].contains(resource))
    return done(fail(Reason::kNoSuchBinding, resource + " is not bound to it"));
  edit_key(id, (bound ? "key.bind " : "key.unbind ") + resource, caller, done,
           [this, id, resource, bound](KeyInfo&) {
             if (bound) {
               bindings_[id].insert(resource);
             } else {
               bindings_[id].erase(resource);
             }
           });
}

void SimEngine::key_bindings(const CmkId& id, const std::string& after, std::size_t count_max,
                             Done<std::vector<std::string>> done) {
  if (failed(done)) return;
  std::vector<std::string> found;
  for (const auto& resource : bindings_[id]) {
    if (resource > after && found.size() < count_max) found.push_back(resource);
  }
  later([found = std::move(found), done = std::move(done)] { done(found); });
}

void SimEngine::random_bytes(std::uint32_t size_bytes, const agent::Caller& caller,
                             Done<SecretBytes> done) {
  if (failed(done)) return;
  effect("key.random", std::to_string(size_bytes) + " bytes", caller);
  later([size_bytes, done = std::move(done)] { done(SecretBytes::random(size_bytes)); });
}

void SimEngine::prepare_import(const CmkId& id, keyring::ImportWrapping wrapping,
                               const agent::Caller& caller, Done<keyring::ImportParameters> done) {
  if (failed(done)) return;
  effect("key.prepare-import", std::string(import_wrapping_name(wrapping)), caller);
  later([id, done = std::move(done)] {
    keyring::ImportParameters parameters;
    parameters.public_key = *from_hex("300a");
    parameters.token = Bytes(id.bytes().begin(), id.bytes().end());
    parameters.valid_to = system_clock().wall() + kDay;
    done(parameters);
  });
}

void SimEngine::import_material(const CmkId& id, const keyring::ImportMaterial& material,
                                const agent::Caller& caller, Done<void> done) {
  if (!std::ranges::equal(material.token, id.bytes()) && !next_failure_)
    return done(fail(Reason::kImportTokenExpired, "another key's token"));
  edit_key(id, "key.import " + to_hex(material.wrapped), caller, done, [material](KeyInfo& key) {
    key.record.state = KeyState::kEnabled;
    key.record.material_valid_to = material.valid_to;
    if (!keyring::is_symmetric(key.record.algorithm))
      key.record.versions.back().public_key = *from_hex("3000");
  });
}

template <class T>
bool SimEngine::cannot_use(const CmkId& id, const Done<T>& done) {
  if (failed(done)) return true;
  const auto found = keys_.find(id);
  if (found == keys_.end()) {
    done(fail(Reason::kNoSuchKey, "no key " + id.str()));
    return true;
  }
  if (found->second.record.state != KeyState::kEnabled) {
    done(Result<T>(keyring::refused_by_state(found->second.record, "use")));
    return true;
  }
  return false;
}

CallerBlob SimEngine::seal(const CmkId& id, keyring::Purpose purpose, ByteView plain,
                           const std::string& application) {
  sealed_.emplace_back(Bytes(plain.begin(), plain.end()), application);
  return {purpose,
          static_cast<std::uint32_t>(plain.size()),
          {keyring::KekProfile::kAesGcm, id, keys_.at(id).record.current().number, Bytes(12),
           ByteWriter().u32(static_cast<std::uint32_t>(sealed_.size())).take(), Bytes(16)}};
}

Result<Bytes> SimEngine::open(const CallerBlob& blob, const std::string& application) const {
  const auto number = ByteReader(blob.wrapped.ciphertext).u32();
  if (number == 0 || number > sealed_.size() || sealed_[number - 1].second != application)
    return fail(Reason::kBlobInvalid, "not what was encrypted here, or another context");
  return sealed_[number - 1].first;
}

void SimEngine::encrypt(const CmkId& id, UniqueFd sealed, const std::string& application,
                        const agent::Caller& caller, Done<Bytes> done) {
  if (cannot_use(id, done)) return;
  const auto plain = read_sealed_secret(sealed.get(), CallerBlob::kPlainBytesMax);
  if (!plain) return done(tl::unexpected(plain.error()));
  effect("key.encrypt", std::to_string(plain->size()) + " bytes", caller);
  const auto blob = seal(id, keyring::Purpose::kData, plain->reveal(), application).encode();
  later([blob, done = std::move(done)] { done(blob); });
}

void SimEngine::decrypt(const CallerBlob& blob, const std::string& application,
                        const agent::Caller& caller, Done<SecretBytes> done) {
  if (cannot_use(blob.wrapped.cmk, done)) return;
  const auto plain = open(blob, application);
  if (!plain) return done(tl::unexpected(plain.error()));
  effect("key.decrypt", keys_.at(blob.wrapped.cmk).record.alias, caller);
  later([plain = *plain, done = std::move(done)] { done(SecretBytes::copy_of(plain)); });
}

void SimEngine::make_data_key(const CmkId& id, std::uint32_t size_bytes,
                              const std::string& application, const agent::Caller& caller,
                              Done<agent::NewDataKey> done) {
  if (cannot_use(id, done)) return;
  effect("key.make-data-key", std::to_string(size_bytes) + " bytes", caller);
  later([this, id, size_bytes, application, done = std::move(done)] {
    agent::NewDataKey key;
    key.plain = *SecretBytes::random(size_bytes);
    key.blob = seal(id, keyring::Purpose::kEnvelopeData, key.plain.reveal(), application).encode();
    done(std::move(key));
  });
}

void SimEngine::reencrypt(const CallerBlob& blob, const std::string& application, const CmkId& to,
                          const std::string& application_then, const agent::Caller& caller,
                          Done<agent::Reencrypted> done) {
  if (cannot_use(blob.wrapped.cmk, done)) return;
  const auto plain = open(blob, application);
  if (!plain) return done(tl::unexpected(plain.error()));
  effect("key.rewrap", keys_.at(to).record.alias, caller);
  agent::Reencrypted made;
  made.changed = blob.wrapped.cmk != to ||
                 blob.wrapped.cmk_version != keys_.at(to).record.current().number ||
                 application != application_then;
  made.blob =
      made.changed ? seal(to, blob.purpose, *plain, application_then).encode() : blob.encode();
  later([made, done = std::move(done)] { done(made); });
}

void SimEngine::sign(const CmkId& id, keyring::SignScheme scheme, const Bytes& digest,
                     const agent::Caller& caller, Done<Bytes> done) {
  if (cannot_use(id, done)) return;
  effect("key.sign", std::string(sign_scheme_name(scheme)), caller);
  if (const auto signer = signers_.find(id); signer != signers_.end()) {
    return later([signature = signer->second(digest), done = std::move(done)] { done(signature); });
  }
  later([digest, done = std::move(done)] { done(Bytes(digest.rbegin(), digest.rend())); });
}

void SimEngine::decrypt_asymmetric(const CmkId& id, keyring::DecryptScheme scheme,
                                   const Bytes& ciphertext, const agent::Caller& caller,
                                   Done<SecretBytes> done) {
  if (cannot_use(id, done)) return;
  effect("key.decrypt", std::string(decrypt_scheme_name(scheme)), caller);
  later([ciphertext, done = std::move(done)] {
    const Bytes plain(ciphertext.rbegin(), ciphertext.rend());
    done(SecretBytes::copy_of(plain));
  });
}

}  // namespace coffer::tests
