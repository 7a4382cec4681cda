// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "agent/engine_types.h"
#include "core/base/secret_bytes.h"
#include "core/base/unique_fd.h"
#include "core/keyring/caller_blob.h"
#include "core/keyring/key_store.h"
#include "core/keyring/key_vault.h"

namespace coffer::agent {

// A change of a key as a caller asks for it.
struct KeyChange {
  keyring::CmkChange change;
  bool force = false;  // Also when volumes or other resources use the key, which are to lose it.
};

struct NewDataKey {
  SecretBytes plain;
  Bytes blob;
};
struct Reencrypted {
  Bytes blob;
  bool changed = false;  // False: the blob was under that key's current version already.
};

// Whether a caller may bind a key to `resource`: not to a volume, which binds its keys itself.
//   kInvalidArgs   it is one, or not as keyring::require_resource() says.
Result<void> require_callers_resource(std::string_view resource);

// KeyEngine is what the agent can do with master keys: their whole life, and their use by callers.
// A part of Engine, under whose rules it stands: bound to the event loop, no call blocks, results
// come to `done` on the loop. Errors beside those named are those of Keyring.
class KeyEngine {
 public:
  template <class T>
  using Done = std::function<void(Result<T>)>;

  virtual ~KeyEngine() = default;

  virtual std::vector<KeyInfo> keys() const = 0;  // From memory, kept current.
  virtual Result<KeyInfo> key(const std::string& id_or_alias) const = 0;  // kNoSuchKey
  // One page of the keys that match, from the store. Keys whose record is damaged are left out and
  // told to the log.
  virtual void list_keys(const keyring::KeyQuery& query, Done<std::vector<KeyInfo>> done) = 0;
  // How many match, damaged ones included.
  virtual void count_keys(const keyring::KeyFilter& filter, Done<std::uint64_t> done) = 0;

  virtual void create_key(const keyring::CmkParameters& parameters, const Caller& caller,
                          Done<KeyInfo> done) = 0;
  // Every change but those that are the agent's own doing (adopt, lease, destroy, expire).
  //   kKeyBound   volumes or other resources use the key, and `change` does not say force.
  // A version is destroyed once the header of every registered volume was read and none has a wrap
  // of it, whatever `change` says of force: kKeyBound names those that have, or cannot be read. Of
  // what callers encrypted nothing tells: of a key that no volume uses a version goes only while
  // the key is disabled (kKeyNotDisabled), or by force.
  virtual void change_key(const CmkId& id, const KeyChange& change, const Caller& caller,
                          Done<void> done) = 0;
  // Moves every volume's wraps under the key to its current version: a job with one item per volume
  // that uses the key, open or not. It ends when each volume has its result; after a restart of the
  // agent it goes on as another job.
  //   kNoSuchKey, kKeyDisabled, …, kKeyUsage   the key does not wrap.
  //   kInProgress   such a job runs already.   kInvalidArgs, kLimitsExceeded
  virtual Result<JobId> rewrap_all(const CmkId& id, const RewrapOptions& options,
                                   const Caller& caller) = 0;
  virtual void set_key_tags(const CmkId& id, const std::vector<keyring::KeyTag>& tags,
                            const Caller& caller, Done<void> done) = 0;

  // What uses a key beside volumes.
  //   kInvalidArgs   as require_callers_resource().
  //   kNoSuchBinding   it is to be unbound and was not bound; that is recorded.
  //   kLimitsExceeded; kKeyDisabled, …   only an enabled key is bound.
  virtual void set_key_bound(const CmkId& id, const std::string& resource, bool bound,
                             const Caller& caller, Done<void> done) = 0;
  // Up to `count_max` (1000) resources behind `after`, ascending; volumes are among them.
  virtual void key_bindings(const CmkId& id, const std::string& after, std::size_t count_max,
                            Done<std::vector<std::string>> done) = 0;

  // Keys whose material is imported.
  virtual void prepare_import(const CmkId& id, keyring::ImportWrapping wrapping,
                              const Caller& caller, Done<keyring::ImportParameters> done) = 0;
  virtual void import_material(const CmkId& id, const keyring::ImportMaterial& material,
                               const Caller& caller, Done<void> done) = 0;

  // What follows waits in a queue of its own, so that it keeps no volume waiting.
  //   kLimitsExceeded   the queue is full: later again. It is recorded.

  // Data of callers: up to keyring::CallerBlob::kPlainBytesMax in `sealed`, an anonymous file as of
  // core/base/sealed_secret.h, which is read when its turn comes; bound to `application`, which is
  // canonical (keyring::canonical_context) and must be given again.
  //   kInvalidArgs   it is no such file.
  virtual void encrypt(const CmkId& id, UniqueFd sealed, const std::string& application,
                       const Caller& caller, Done<Bytes> done) = 0;
  virtual void decrypt(const keyring::CallerBlob& blob, const std::string& application,
                       const Caller& caller, Done<SecretBytes> done) = 0;
  // A random key of `size_bytes` (16 to 1024), plain and encrypted.
  virtual void make_data_key(const CmkId& id, std::uint32_t size_bytes,
                             const std::string& application, const Caller& caller,
                             Done<NewDataKey> done) = 0;
  // Encrypts anew under the current version of `to`; what is in it is not shown to anybody.
  virtual void reencrypt(const keyring::CallerBlob& blob, const std::string& application,
                         const CmkId& to, const std::string& application_then, const Caller& caller,
                         Done<Reencrypted> done) = 0;

  // Bytes from the token's generator, 1 to 1024.
  virtual void random_bytes(std::uint32_t size_bytes, const Caller& caller,
                            Done<SecretBytes> done) = 0;

  // Private keys.
  virtual void sign(const CmkId& id, keyring::SignScheme scheme, const Bytes& digest,
                    const Caller& caller, Done<Bytes> done) = 0;
  virtual void decrypt_asymmetric(const CmkId& id, keyring::DecryptScheme scheme,
                                  const Bytes& ciphertext, const Caller& caller,
                                  Done<SecretBytes> done) = 0;
};

}  // namespace coffer::agent
