// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/keyring/key_context.h"
#include "core/keyring/key_vault.h"

namespace coffer::hsm {

// The one message that carries a DEK, or a share of one, between processes: from the vault to the
// worker, over the SEQPACKET socket `deliver`. One packet a request, one packet its reply, in
// order, one at a time on a connection. Format: docs/formats/delivery.md.
//
// Requests are encoded into and decoded out of locked memory; whoever receives one reads the packet
// into a SecretBytes of kDeliveryBytesMax and hands a view of it to decode_delivery().
struct Delivery {
  keyring::Ticket ticket{};
  std::uint32_t index = 0;  // Which key of the ticket.
  keyring::DekLabel label;  // The worker activates the profile of that digest or nothing.
  SecretBytes key;  // 1 to kDeliveredKeyBytesMax bytes: the key, or the label's share of it.
};

inline constexpr std::size_t kDeliveredKeyBytesMax = 512;
inline constexpr std::size_t kDeliveryHeadBytes = 1 + 16 + 4 + 32 + 3 + 32 + 2;
inline constexpr std::size_t kDeliveryBytesMax = kDeliveryHeadBytes + kDeliveredKeyBytesMax;
inline constexpr std::size_t kDeliveryReplyBytesMax = 1024;

// kInvalidArgs: the key is empty or too long, or the share has no index. kNoMemory.
Result<SecretBytes> encode_delivery(const keyring::Ticket& ticket, std::uint32_t index,
                                    const keyring::DekLabel& label, const SecretBytes& key);

// kMessageInvalid: not what encode_delivery() makes. kNoMemory.
Result<Delivery> decode_delivery(std::span<const std::byte> packet);

// The worker's answer: taken, or the reason why not (kTicketUnknown and so on).
Bytes encode_delivery_reply(const Result<void>& outcome);

// What the worker answered. kMessageInvalid: that was no answer.
Result<void> decode_delivery_reply(ByteView packet);

}  // namespace coffer::hsm
