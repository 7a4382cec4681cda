// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/keyring/key_context.h"

namespace coffer::keyring {

// The shares of one key: made in the vault, put together in the worker (decision 0150).

// HMAC-SHA-256 under the key over the text "coffer key shares 1", the digest of the profile that it
// is for, and the two numbers. It tells nothing of a random key, and only one key has it.
Digest share_commitment(const SecretBytes& key, const Digest& profile_digest,
                        const KeyShares& numbers);

struct SplitKey {
  KeyShares set;                    // With the commitment; index 0.
  std::vector<SecretBytes> shares;  // Of index 1, 2, …; each as long as the key.
};
// kInvalidArgs: the numbers, or the key's length (1 to 4096). kNoMemory.
Result<SplitKey> split_key(const SecretBytes& key, const Digest& profile_digest,
                           std::uint8_t needed, std::uint8_t total);

// ShareCollector takes the shares of one key as they come, in any order. One thread at a time.
class ShareCollector {
 public:
  // Takes one of the shares. With the last that is needed it gives the key, checked against the
  // commitment, and is empty again.
  //   kInvalidArgs    it has no index, or the numbers are outside their limits.
  //   kTicketUnknown  that share is there already.
  //   kBlobInvalid    of another set or length than the ones before, which stay.
  //   kWrongKey       together they are not the key: it is empty again.
  //   kNoMemory
  Result<std::optional<SecretBytes>> add(const KeyShares& share, const Digest& profile_digest,
                                         SecretBytes value);
  void clear() { shares_.clear(); }

 private:
  struct Share {
    KeyShares of;
    Digest profile_digest{};
    SecretBytes value;
  };
  std::vector<Share> shares_;
};

}  // namespace coffer::keyring
