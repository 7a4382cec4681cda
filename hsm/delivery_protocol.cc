// SPDX-License-Identifier: Apache-2.0
#include "hsm/delivery_protocol.h"

#include <algorithm>
#include <string>

namespace coffer::hsm {
namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kReasonNameBytesMax = 64;
constexpr std::size_t kMessageBytesMax = 512;

}  // namespace

Result<SecretBytes> encode_delivery(const keyring::Ticket& ticket, std::uint32_t index,
                                    const keyring::Digest& profile_digest, const SecretBytes& key) {
  if (key.empty() || key.size() > kDeliveredKeyBytesMax)
    return fail(Reason::kInvalidArgs, "a delivered key has 1 to 512 bytes");

  // The head is public; only the packet as a whole must never touch ordinary memory.
  ByteWriter head;
  head.u8(kVersion).raw(ticket).u32(index).raw(profile_digest);
  head.u16(static_cast<std::uint16_t>(key.size()));

  auto packet = SecretBytes::zeroed(head.size() + key.size());
  if (!packet) return pass(packet.error(), "encode a delivery");
  const auto behind = std::ranges::copy(head.view(), packet->reveal_mutable().begin()).out;
  std::ranges::copy(key.reveal(), behind);
  return packet;
}

Result<Delivery> decode_delivery(std::span<const std::byte> packet) {
  ByteReader in(packet);
  if (in.u8() != kVersion) in.reject();
  const auto ticket = in.raw(16);
  const auto index = in.u32();
  const auto digest = in.raw(32);
  const std::size_t key_bytes = in.u16();
  if (key_bytes == 0 || key_bytes > kDeliveredKeyBytesMax) in.reject();
  const auto key = in.raw(key_bytes);
  if (const auto end = in.finish(Reason::kMessageInvalid, "a delivery"); !end)
    return pass(end.error(), "decode a delivery");

  auto secret = SecretBytes::copy_of(key);
  if (!secret) return pass(secret.error(), "decode a delivery");
  Delivery delivery;
  std::ranges::copy(ticket, delivery.ticket.begin());
  delivery.index = index;
  std::ranges::copy(digest, delivery.profile_digest.begin());
  delivery.key = std::move(*secret);
  return delivery;
}

Bytes encode_delivery_reply(const Result<void>& outcome) {
  ByteWriter out;
  out.u8(kVersion).boolean(outcome.has_value());
  if (!outcome) {
    out.text(outcome.error().name());
    out.text(printable(outcome.error().message(), kMessageBytesMax));
  }
  return out.take();
}

Result<void> decode_delivery_reply(ByteView packet) {
  ByteReader in(packet);
  if (in.u8() != kVersion) in.reject();
  const bool taken = in.boolean();
  const auto name = taken ? std::string() : in.text(kReasonNameBytesMax);
  const auto message = taken ? std::string() : in.text(kMessageBytesMax);
  if (const auto end = in.finish(Reason::kMessageInvalid, "the answer to a delivery"); !end)
    return end;
  if (taken) return {};

  const auto reason = reason_by_name(name);
  if (!reason) return fail(Reason::kMessageInvalid, "the answer to a delivery has no known reason");
  return fail(*reason, message);
}

}  // namespace coffer::hsm
