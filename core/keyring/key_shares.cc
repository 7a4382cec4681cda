// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/key_shares.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "core/crypto/digest.h"
#include "core/crypto/shamir.h"

namespace coffer::keyring {
namespace {

constexpr std::string_view kCommitmentLabel = "coffer key shares 1";

bool same_set(KeyShares a, KeyShares b) {
  a.index = 0;
  b.index = 0;
  return a == b;
}

std::string named(const KeyShares& share) {
  return "share " + std::to_string(share.index) + " of " + std::to_string(share.total);
}

}  // namespace

Digest share_commitment(const SecretBytes& key, const Digest& profile_digest,
                        const KeyShares& numbers) {
  ByteWriter over;
  over.raw(as_bytes(kCommitmentLabel)).raw(profile_digest).u8(numbers.needed).u8(numbers.total);
  return crypto::HmacSha256(key.reveal()).update(over.view()).finish();
}

Result<SplitKey> split_key(const SecretBytes& key, const Digest& profile_digest,
                           std::uint8_t needed, std::uint8_t total) {
  SplitKey split;
  split.set = {.needed = needed, .total = total};
  if (!split.set.valid()) {
    return fail(Reason::kInvalidArgs, "a key is split into 2 to " +
                                          std::to_string(KeyShares::kTotalMax) +
                                          " shares, of which 2 to all are needed");
  }
  auto shares = crypto::shamir_split(key, {.needed = needed, .total = total});
  if (!shares) return pass(shares.error(), "split a key");
  split.shares = std::move(*shares);
  split.set.commitment = share_commitment(key, profile_digest, split.set);
  return split;
}

Result<std::optional<SecretBytes>> ShareCollector::add(const KeyShares& share,
                                                       const Digest& profile_digest,
                                                       SecretBytes value) {
  if (!share.valid() || share.index == 0) {
    return fail(Reason::kInvalidArgs, "a share of a key says nothing sound of its set");
  }
  for (const Share& other : shares_) {
    if (!same_set(other.of, share) || other.profile_digest != profile_digest ||
        other.value.size() != value.size()) {
      return fail(Reason::kBlobInvalid, named(share) + " is of another key than those before");
    }
    if (other.of.index == share.index) {
      return fail(Reason::kTicketUnknown, named(share) + " is there already");
    }
  }
  shares_.push_back({share, profile_digest, std::move(value)});
  if (shares_.size() < share.needed) return std::nullopt;

  const std::vector<Share> all = std::exchange(shares_, {});
  std::vector<crypto::ShamirPoint> points;
  points.reserve(all.size());
  for (const Share& one : all) points.push_back({one.of.index, one.value.reveal()});
  auto key = crypto::shamir_combine(points);
  if (!key) return pass(key.error(), "put a key together");
  if (!equal_constant_time(share_commitment(*key, profile_digest, share), share.commitment)) {
    return fail(Reason::kWrongKey, "the shares do not make the key that they are said to be of");
  }
  return std::optional<SecretBytes>(std::move(*key));
}

}  // namespace coffer::keyring
