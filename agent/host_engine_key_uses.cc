// SPDX-License-Identifier: Apache-2.0
// What callers use keys for: their own data, data keys, signatures.
#include <utility>

#include "agent/host_engine.h"
#include "agent/host_engine_pool.h"
#include "core/base/sealed_secret.h"

namespace coffer::agent {
namespace {

using keyring::CallerBlob;
using keyring::Keyring;

// A call of the keyring for one key alone: it gives as many results as it is given keys.
template <class T>
Result<T> only(std::vector<Result<T>> results) {
  if (results.empty()) return fail(Reason::kInternal, "the keyring gave no result");
  return std::move(results.front());
}

Result<Bytes> wrap_one(Keyring& keyring, const CmkId& id, keyring::Purpose purpose,
                       SecretBytes plain, const std::string& application,
                       const audit::Actor& actor) {
  const auto plain_bytes = static_cast<std::uint32_t>(plain.size());
  std::vector<keyring::KeyVault::Plain> keys(1);
  keys[0].key = std::move(plain);
  keys[0].context = CallerBlob::context_of(purpose, plain_bytes, application);
  auto wrapped = only(keyring.wrap(id, keys, actor));
  if (!wrapped) return tl::unexpected(wrapped.error());
  return CallerBlob{purpose, plain_bytes, std::move(*wrapped)}.encode();
}

Result<Reencrypted> rewrap_one(Keyring& keyring, CallerBlob blob, const std::string& application,
                               const CmkId& to, const std::string& application_then,
                               const audit::Actor& actor) {
  const auto target = keyring.get(to);
  if (!target) return tl::unexpected(target.error());
  const bool is_current =
      blob.wrapped.cmk == to && blob.wrapped.cmk_version == target->current().number;
  if (is_current && application == application_then) {
    // It says so of itself: that holds once it was opened.
    const keyring::Presented claimed{blob.wrapped, blob.context(application)};
    const auto opened = only(keyring.unwrap({&claimed, 1}, actor));
    if (!opened) return tl::unexpected(opened.error());
    return Reencrypted{blob.encode(), false};
  }
  const keyring::Rewrapped key{{blob.wrapped, blob.context(application)},
                               blob.context(application_then)};
  auto wrapped = only(keyring.rewrap(to, {&key, 1}, actor));
  if (!wrapped) return tl::unexpected(wrapped.error());
  blob.wrapped = std::move(*wrapped);
  return Reencrypted{blob.encode(), true};
}

}  // namespace

void HostEngine::encrypt(const CmkId& id, UniqueFd sealed, const std::string& application,
                         const Caller& caller, Done<Bytes> done) {
  done = alarmed(id, "encrypt", caller, std::move(done));
  run_for_caller(
      {"key.wrap", {id}, caller},
      [this, id, sealed = std::move(sealed), application,
       actor = actor_of(caller)]() -> Result<Bytes> {
        // Not before its turn: what waits holds no locked memory.
        auto plain = read_sealed_secret(sealed.get(), CallerBlob::kPlainBytesMax);
        if (!plain) return tl::unexpected(plain.error());
        return wrap_one(parts_.keyring, id, keyring::Purpose::kData, std::move(*plain), application,
                        actor);
      },
      [done](Result<Bytes> made) { done(std::move(made)); });
}

void HostEngine::decrypt(const CallerBlob& blob, const std::string& application,
                         const Caller& caller, Done<SecretBytes> done) {
  done = alarmed(blob.wrapped.cmk, "decrypt", caller, std::move(done));
  run_for_caller(
      {"key.unwrap", {blob.wrapped.cmk}, caller},
      [this, key = keyring::Presented{blob.wrapped, blob.context(application)},
       actor = actor_of(caller)] { return only(parts_.keyring.unwrap({&key, 1}, actor)); },
      [done](Result<SecretBytes> plain) { done(std::move(plain)); });
}

void HostEngine::make_data_key(const CmkId& id, std::uint32_t size_bytes,
                               const std::string& application, const Caller& caller,
                               Done<NewDataKey> done) {
  done = alarmed(id, "make a data key", caller, std::move(done));
  run_for_caller(
      {"key.wrap", {id}, caller},
      [this, id, size_bytes, application, actor = actor_of(caller)]() -> Result<NewDataKey> {
        auto drawn = parts_.vault.random(size_bytes);
        if (!drawn) return tl::unexpected(drawn.error());
        NewDataKey key;
        auto copy = SecretBytes::copy_of(drawn->reveal());
        if (!copy) return tl::unexpected(copy.error());
        key.plain = std::move(*copy);
        auto made = wrap_one(parts_.keyring, id, keyring::Purpose::kEnvelopeData, std::move(*drawn),
                             application, actor);
        if (!made) return tl::unexpected(made.error());
        key.blob = std::move(*made);
        return key;
      },
      [done](Result<NewDataKey> key) { done(std::move(key)); });
}

void HostEngine::reencrypt(const CallerBlob& blob, const std::string& application, const CmkId& to,
                           const std::string& application_then, const Caller& caller,
                           Done<Reencrypted> done) {
  done = alarmed(blob.wrapped.cmk, "encrypt anew", caller, std::move(done));
  if (blob.wrapped.cmk != to) done = alarmed(to, "encrypt anew", caller, std::move(done));
  KeyCall call{"key.rewrap", {blob.wrapped.cmk}, caller};
  // Both keys are used.
  if (blob.wrapped.cmk != to) call.keys.push_back(to);
  run_for_caller(
      call,
      [this, blob, application, to, application_then, actor = actor_of(caller)] {
        return rewrap_one(parts_.keyring, blob, application, to, application_then, actor);
      },
      [done](Result<Reencrypted> made) { done(std::move(made)); });
}

// It is about no key, so the trail has nothing of it but the reason that was given, and a refusal.
void HostEngine::random_bytes(std::uint32_t size_bytes, const Caller& caller,
                              Done<SecretBytes> done) {
  const KeyCall call{"key.random", {}, caller};
  run_for_caller(
      call,
      [this, size_bytes, call] {
        auto bytes = parts_.vault.random(size_bytes);
        if (!bytes) record_refused(call, bytes.error());
        return bytes;
      },
      [done](Result<SecretBytes> bytes) { done(std::move(bytes)); });
}

void HostEngine::sign(const CmkId& id, keyring::SignScheme scheme, const Bytes& digest,
                      const Caller& caller, Done<Bytes> done) {
  done = alarmed(id, "sign", caller, std::move(done));
  run_for_caller(
      {"key.sign", {id}, caller},
      [this, id, scheme, digest, actor = actor_of(caller)] {
        return only(parts_.keyring.sign(id, scheme, {&digest, 1}, actor));
      },
      [done](Result<Bytes> signature) { done(std::move(signature)); });
}

void HostEngine::decrypt_asymmetric(const CmkId& id, keyring::DecryptScheme scheme,
                                    const Bytes& ciphertext, const Caller& caller,
                                    Done<SecretBytes> done) {
  done = alarmed(id, "decrypt", caller, std::move(done));
  run_for_caller(
      {"key.decrypt", {id}, caller},
      [this, id, scheme, ciphertext, actor = actor_of(caller)] {
        return only(parts_.keyring.decrypt(id, scheme, {&ciphertext, 1}, actor));
      },
      [done](Result<SecretBytes> plain) { done(std::move(plain)); });
}

}  // namespace coffer::agent
