// SPDX-License-Identifier: Apache-2.0
#include "hsm/delivery_protocol.h"

#include <algorithm>
#include <string>

namespace coffer::hsm {
namespace {

constexpr std::uint8_t kVersion = 2;
constexpr std::uint8_t kReplyVersion = 1;
constexpr std::size_t kReasonNameBytesMax = 64;
constexpr std::size_t kMessageBytesMax = 512;

bool sound(const keyring::DekLabel& label) {
  return !label.share || (label.share->valid() && label.share->index != 0);
}

// Behind its index, which is not 0.
keyring::KeyShares read_share(ByteReader& in, std::uint8_t index) {
  keyring::KeyShares share;
  share.index = index;
  share.needed = in.u8();
  share.total = in.u8();
  const auto commitment = in.raw(share.commitment.size());
  std::ranges::copy(commitment, share.commitment.begin());
  return share;
}

}  // namespace

Result<SecretBytes> encode_delivery(const keyring::Ticket& ticket, std::uint32_t index,
                                    const keyring::DekLabel& label, const SecretBytes& key) {
  if (key.empty() || key.size() > kDeliveredKeyBytesMax)
    return fail(Reason::kInvalidArgs, "a delivered key has 1 to 512 bytes");
  if (!sound(label)) return fail(Reason::kInvalidArgs, "a delivered share has an index in its set");

  // The head is public; only the packet as a whole must never touch ordinary memory.
  ByteWriter head;
  head.u8(kVersion).raw(ticket).u32(index).raw(label.profile_digest);
  head.u8(label.share ? label.share->index : 0);
  if (label.share) head.u8(label.share->needed).u8(label.share->total).raw(label.share->commitment);
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
  keyring::DekLabel label;
  const auto digest = in.raw(label.profile_digest.size());
  std::ranges::copy(digest, label.profile_digest.begin());
  if (const auto share = in.u8(); share != 0) label.share = read_share(in, share);
  if (!sound(label)) in.reject();
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
  delivery.label = label;
  delivery.key = std::move(*secret);
  return delivery;
}

Bytes encode_delivery_reply(const Result<void>& outcome) {
  ByteWriter out;
  out.u8(kReplyVersion).boolean(outcome.has_value());
  if (!outcome) {
    out.text(outcome.error().name());
    out.text(printable(outcome.error().message(), kMessageBytesMax));
  }
  return out.take();
}

Result<void> decode_delivery_reply(ByteView packet) {
  ByteReader in(packet);
  if (in.u8() != kReplyVersion) in.reject();
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
