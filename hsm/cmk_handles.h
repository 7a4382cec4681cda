// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <p11-kit/pkcs11.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include "core/base/bytes.h"
#include "core/base/id.h"
#include "core/crypto/digest.h"
#include "hsm/token_keys.h"

namespace coffer::hsm {

// CmkHandles unwraps CMKs into the token and keeps their handles, so that a volume's unlock costs
// one decryption and not an unwrap too. A handle is found by the digest of the wrapped bytes, which
// the record's seal covers; states are checked by the caller each time.
//
// A version that was destroyed is forgotten, and its handle is not kept again: a call that began
// before may still unwrap it, for itself.
//
// Thread-safe. Holds at most `count_max` handles; the one unused for longest goes, and its object
// is destroyed once nobody uses it.
class CmkHandles {
 public:
  explicit CmkHandles(std::size_t count_max) : count_max_(count_max) {}

  // Keeps its object alive. Not to be held beyond the work it was taken for.
  using Handle = std::shared_ptr<const CK_OBJECT_HANDLE>;

  // One version of a CMK.
  using Name = std::pair<CmkId, std::uint32_t>;

  // Makes an object of the owner's session of a CMK, while no other call on objects runs.
  using Unwrap = std::function<CK_RV(CK_OBJECT_HANDLE& out)>;

  // The CMK wrapped in `material`, unwrapped when it is not there yet.
  CK_RV get(const ObjectAccess& access, const Name& name, ByteView material, const Unwrap& unwrap,
            Handle& out);

  // Its object is destroyed once nobody uses it. The next get() keeps one again.
  void drop(const Name& name);

  // The same, and none is kept from now on.
  void forget(const Name& name);

  // The session that owned the objects is gone, and they with it. While no work runs.
  void forget_all();

  std::size_t size() const;

 private:
  struct Entry {
    Handle handle;
    Name name;
    std::uint64_t used = 0;
  };
  void make_room();

  static constexpr std::size_t kForgottenMax = std::size_t{64} * 1024;

  const std::size_t count_max_;
  mutable std::mutex
      mutex_;  // Guards what follows; taken before ObjectAccess::objects, never after.
  std::map<crypto::Sha256Digest, Entry> entries_;
  std::shared_ptr<bool> session_lives_ = std::make_shared<bool>(true);
  std::set<Name> forgotten_;
  std::uint64_t uses_ = 0;
};

}  // namespace coffer::hsm
