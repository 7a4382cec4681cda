// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/worker_protocol.h"

#include <algorithm>
#include <variant>

#include "core/ipc/frame.h"

namespace coffer::agent {
namespace {

constexpr std::size_t kErrorBytesMax = 2048;
constexpr std::size_t kUuidBytes = 16;

void put_error(ByteWriter& out, const Error& error) {
  out.bytes(ipc::encode_error(error));
}

Error get_error(ByteReader& in) {
  const auto error = ipc::decode_error(in.bytes(kErrorBytesMax));
  if (error) return *error;
  in.reject();
  return error.error();
}

// A text that put() made printable. Anything else was not written by it.
std::string get_printable(ByteReader& in) {
  std::string text = in.text(kTextBytesMax);
  if (printable(text, kTextBytesMax) != text) in.reject();
  return text;
}

void put_identity(ByteWriter& out, const DeviceIdentity& identity) {
  out.text(identity.node).u32(identity.major).u32(identity.minor).u64(identity.size_bytes);
  out.u32(identity.sector_bytes).boolean(identity.read_only).u64(identity.sequence);
}

DeviceIdentity get_identity(ByteReader& in) {
  DeviceIdentity identity;
  identity.node = in.text(kTextBytesMax);
  identity.major = in.u32();
  identity.minor = in.u32();
  identity.size_bytes = in.u64();
  identity.sector_bytes = in.u32();
  identity.read_only = in.boolean();
  identity.sequence = in.u64();
  return identity;
}

luks2::Sha256 get_sha256(ByteReader& in) {
  luks2::Sha256 digest{};
  const auto bytes = in.raw(digest.size());
  if (in.good()) std::ranges::copy(bytes, digest.begin());
  return digest;
}

void put_header(ByteWriter& out, const luks2::CheckedHeader& header) {
  out.bytes(luks2::encode_outcome(header));
}

std::optional<luks2::CheckedHeader> get_header(ByteReader& in) {
  auto outcome = luks2::decode_outcome(in.bytes(luks2::kCheckOutcomeBytesMax));
  if (outcome)
    if (auto* header = std::get_if<luks2::CheckedHeader>(&*outcome)) return std::move(*header);
  in.reject();
  return std::nullopt;
}

// An enumeration from 1 to `last`.
template <class E>
E get_enum(ByteReader& in, E last) {
  const auto value = in.u8();
  if (value < 1 || value > static_cast<std::uint8_t>(last)) in.reject();
  return static_cast<E>(value);
}

}  // namespace

void put(ByteWriter& out, const ScanItem& value) {
  out.text(value.device).text(value.header_device);
}

ScanItem get_scan_item(ByteReader& in) {
  ScanItem item;
  item.device = in.text(kDevicePathBytesMax);
  item.header_device = in.text(kDevicePathBytesMax);
  return item;
}

void put(ByteWriter& out, const Result<ScannedDevice>& value) {
  out.boolean(value.has_value());
  if (!value) return put_error(out, value.error());
  out.u64(value->handle);
  put_identity(out, value->device);
  out.boolean(value->header_device.has_value());
  if (value->header_device) put_identity(out, *value->header_device);
  out.raw(value->header_sha256).boolean(value->header.has_value());
  if (value->header)
    put_header(out, *value->header);
  else
    put_error(out, value->header.error());
}

Result<ScannedDevice> get_scanned(ByteReader& in) {
  if (!in.boolean()) return tl::unexpected(get_error(in));
  ScannedDevice scanned;
  scanned.handle = in.u64();
  scanned.device = get_identity(in);
  if (in.boolean()) scanned.header_device = get_identity(in);
  scanned.header_sha256 = get_sha256(in);
  if (!in.boolean()) {
    scanned.header = tl::unexpected(get_error(in));
  } else if (auto header = get_header(in)) {
    scanned.header = std::move(*header);
  }
  return scanned;
}

void put(ByteWriter& out, const ExpectedKey& value) {
  out.u32(value.index).u64(value.handle).u8(static_cast<std::uint8_t>(value.action));
  out.text(value.mapping).bytes(luks2::encode_profile(value.profile));
  out.boolean(value.read_only).boolean(value.allow_discards);
  out.boolean(value.no_read_workqueue).boolean(value.no_write_workqueue);
}

ExpectedKey get_expected(ByteReader& in) {
  ExpectedKey key;
  key.index = in.u32();
  key.handle = in.u64();
  key.action = get_enum(in, Action::kFormat);
  key.mapping = in.text(kMappingNameBytesMax);
  const auto profile = luks2::decode_profile(in.bytes(luks2::kProfileBytesMax));
  if (profile)
    key.profile = *profile;
  else
    in.reject();
  key.read_only = in.boolean();
  key.allow_discards = in.boolean();
  key.no_read_workqueue = in.boolean();
  key.no_write_workqueue = in.boolean();
  return key;
}

void put(ByteWriter& out, const KeyOutcome& value) {
  out.u32(value.index).boolean(value.result.has_value());
  if (!value.result) return put_error(out, value.result.error());
  out.text(value.result->node).text(value.result->dm_uuid);
  out.u32(value.result->major).u32(value.result->minor);
  out.u64(value.result->usable_boot_usec).u64(value.result->settled_boot_usec);
}

KeyOutcome get_outcome(ByteReader& in) {
  KeyOutcome outcome;
  outcome.index = in.u32();
  if (!in.boolean()) {
    outcome.result = tl::unexpected(get_error(in));
    return outcome;
  }
  Activated activated;
  activated.node = in.text(kTextBytesMax);
  activated.dm_uuid = in.text(kTextBytesMax);
  activated.major = in.u32();
  activated.minor = in.u32();
  activated.usable_boot_usec = in.u64();
  activated.settled_boot_usec = in.u64();
  outcome.result = std::move(activated);
  return outcome;
}

void put(ByteWriter& out, const WaitReply& value) {
  out.boolean(value.finished).u32(static_cast<std::uint32_t>(value.outcomes.size()));
  for (const auto& outcome : value.outcomes) put(out, outcome);
}

WaitReply get_wait_reply(ByteReader& in) {
  WaitReply reply;
  reply.finished = in.boolean();
  const auto count = in.count(kOutcomesPerReply, 5);
  for (std::size_t i = 0; i < count; ++i) reply.outcomes.push_back(get_outcome(in));
  return reply;
}

void put(ByteWriter& out, const Mapping& value) {
  out.text(printable(value.name, kTextBytesMax)).text(printable(value.dm_uuid, kTextBytesMax));
  out.boolean(value.volume.has_value());
  if (value.volume) put(out, *value.volume);
  out.text(value.node).u32(value.major).u32(value.minor);
  out.u32(value.backing_major).u32(value.backing_minor).u32(value.open_count);
  out.u8(static_cast<std::uint8_t>(value.state)).boolean(value.read_only).boolean(value.deferred);
  out.boolean(value.marked).boolean(value.device_gone);
}

Mapping get_mapping(ByteReader& in) {
  Mapping mapping;
  mapping.name = get_printable(in);
  mapping.dm_uuid = get_printable(in);
  if (in.boolean()) mapping.volume = get_volume(in);
  mapping.node = in.text(kTextBytesMax);
  mapping.major = in.u32();
  mapping.minor = in.u32();
  mapping.backing_major = in.u32();
  mapping.backing_minor = in.u32();
  mapping.open_count = in.u32();
  mapping.state = get_enum(in, MappingState::kErrorTarget);
  mapping.read_only = in.boolean();
  mapping.deferred = in.boolean();
  mapping.marked = in.boolean();
  mapping.device_gone = in.boolean();
  return mapping;
}

void put(ByteWriter& out, const Emptiness& value) {
  out.boolean(value.empty).text(printable(value.found, kTextBytesMax)).text(value.confirmation);
}

Emptiness get_emptiness(ByteReader& in) {
  Emptiness seen;
  seen.empty = in.boolean();
  seen.found = get_printable(in);
  seen.confirmation = in.text(kTextBytesMax);
  return seen;
}

void put(ByteWriter& out, const BuiltHeader& value) {
  out.raw(value.header_sha256).bytes(value.print);
  put_header(out, value.header);
}

BuiltHeader get_built(ByteReader& in) {
  const auto digest = get_sha256(in);
  const auto print = in.bytes(kHeaderPrintBytesMax);
  // Of a bad message any header will do: the caller sees that `in` is bad.
  auto header = get_header(in).value_or(luks2::CheckedHeader{});
  return {digest, {print.begin(), print.end()}, std::move(header)};
}

void put(ByteWriter& out, const keyring::Ticket& value) {
  out.raw(value);
}

keyring::Ticket get_ticket(ByteReader& in) {
  keyring::Ticket ticket{};
  const auto bytes = in.raw(ticket.size());
  if (in.good()) std::ranges::copy(bytes, ticket.begin());
  return ticket;
}

void put(ByteWriter& out, const VolumeId& value) {
  out.raw(value.bytes());
}

std::optional<VolumeId> get_volume(ByteReader& in) {
  const auto id = VolumeId::from_bytes(in.raw(kUuidBytes));
  if (id) return *id;
  in.reject();
  return std::nullopt;
}

HeaderPresence get_presence(ByteReader& in) {
  return get_enum(in, HeaderPresence::kWhole);
}

}  // namespace coffer::agent
