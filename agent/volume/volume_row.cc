// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/registry.h"
#include "core/crypto/digest.h"
#include "core/keyring/wrapped_key.h"

namespace coffer::agent {
namespace {

constexpr std::uint16_t kFormatVersion = 1;
constexpr std::size_t kPathBytesMax = 4096;
constexpr std::size_t kNameBytesMax = 64;
constexpr std::size_t kIdentityBytesMax = 256;
constexpr std::size_t kProfileBytesMax = 4096;
constexpr std::size_t kWrapsMax = 8;
constexpr std::size_t kDigestBytes = 32;
constexpr std::size_t kHeaderPrintBytesMax = 4096;

void write_identity(ByteWriter& out, const DiskIdentity& identity) {
  out.text(identity.path).text(identity.serial).text(identity.wwn);
}

DiskIdentity read_identity(ByteReader& in) {
  DiskIdentity identity;
  identity.path = in.text(kPathBytesMax);
  identity.serial = in.text(kIdentityBytesMax);
  identity.wwn = in.text(kIdentityBytesMax);
  return identity;
}

VolumeId read_volume_id(ByteReader& in) {
  // Sixteen bytes always make an id; a short read has already made the reader bad.
  const ByteView bytes = in.raw(16);
  const auto id = VolumeId::from_bytes(bytes);
  if (id) return *id;
  in.reject();
  return VolumeId(Uuid());
}

CmkId read_cmk_id(ByteReader& in) {
  const auto id = CmkId::from_bytes(in.raw(16));
  if (id) return *id;
  in.reject();
  return CmkId(Uuid());
}

RowState read_state(ByteReader& in) {
  const std::uint8_t state = in.u8();
  if (state != 1 && state != 2) in.reject();
  return static_cast<RowState>(state);
}

Result<void> require_sound(const VolumeRow& row) {
  const auto damaged = [&](const char* what) {
    return fail(Reason::kStoreDamaged, "registry row " + row.id.str() + ": " + what);
  };
  if (!require_volume_name(row.name) || !require_volume_name(row.mapped_name)) {
    return damaged("its name is not one");
  }
  if (row.device_bytes == 0) return damaged("it does not know the size of its device");
  if (row.pending_generation != 0 && row.pending_generation != row.generation + 1) {
    return damaged("its pending generation does not follow its generation");
  }
  if (row.state == RowState::kReady && (row.wraps.empty() || row.context.empty())) {
    return damaged("it is ready and has no wrapped key");
  }
  return {};
}

}  // namespace

Result<void> require_volume_name(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
  };
  const bool good = !name.empty() && name.size() <= kNameBytesMax && name != "." && name != ".." &&
                    name != "control" && std::all_of(name.begin(), name.end(), allowed);
  if (good) return {};
  return fail(Reason::kInvalidArgs, "\"" + printable(name, kNameBytesMax) +
                                        "\" is not a name of 1 to 64 of A-Za-z0-9_.-");
}

Bytes VolumeRow::encode() const {
  ByteWriter out;
  out.u16(kFormatVersion).raw(id.bytes()).text(name).text(mapped_name);
  write_identity(out, device);
  write_identity(out, header_device);
  out.u64(device_bytes);
  out.u8(static_cast<std::uint8_t>(state)).bytes(profile).u64(generation).u64(pending_generation);
  out.bytes(context).u32(static_cast<std::uint32_t>(wraps.size()));
  for (const Bytes& wrap : wraps) out.bytes(wrap);
  out.u32(static_cast<std::uint32_t>(keys.size()));
  for (const CmkId& key : keys) out.raw(key.bytes());
  out.bytes(header_print).boolean(automatic).boolean(locked_by_admin).text(locked_boot_id);
  out.text(file_system).boolean(file_system_made).u64(usec(created)).u64(usec(last_unlock));
  out.raw(crypto::sha256(out.view()));
  return out.take();
}

Result<VolumeRow> VolumeRow::decode(ByteView bytes) {
  if (bytes.size() < kDigestBytes) return fail(Reason::kStoreDamaged, "registry row: too short");
  const ByteView body = bytes.first(bytes.size() - kDigestBytes);
  const crypto::Sha256Digest digest = crypto::sha256(body);
  if (!std::equal(digest.begin(), digest.end(), bytes.last(kDigestBytes).begin())) {
    return fail(Reason::kStoreDamaged, "registry row: its digest does not match");
  }

  ByteReader in(body);
  if (in.u16() != kFormatVersion) {
    return fail(Reason::kStoreDamaged, "registry row: of an unknown format version");
  }
  VolumeRow row;
  row.id = read_volume_id(in);
  row.name = in.text(kNameBytesMax);
  row.mapped_name = in.text(kNameBytesMax);
  row.device = read_identity(in);
  row.header_device = read_identity(in);
  row.device_bytes = in.u64();
  row.state = read_state(in);
  const ByteView profile = in.bytes(kProfileBytesMax);
  row.profile.assign(profile.begin(), profile.end());
  row.generation = in.u64();
  row.pending_generation = in.u64();
  const ByteView context = in.bytes(keyring::KeyContext::kEncodedBytesMax);
  row.context.assign(context.begin(), context.end());
  const std::size_t wrap_count = in.count(kWrapsMax, 4);
  for (std::size_t i = 0; i < wrap_count; ++i) {
    const ByteView wrap = in.bytes(keyring::WrappedKey::kEncodedBytesMax);
    row.wraps.emplace_back(wrap.begin(), wrap.end());
  }
  const std::size_t key_count = in.count(kWrapsMax, 16);
  for (std::size_t i = 0; i < key_count; ++i) row.keys.push_back(read_cmk_id(in));
  const ByteView print = in.bytes(kHeaderPrintBytesMax);
  row.header_print.assign(print.begin(), print.end());
  row.automatic = in.boolean();
  row.locked_by_admin = in.boolean();
  row.locked_boot_id = in.text(kIdentityBytesMax);
  row.file_system = in.text(kNameBytesMax);
  row.file_system_made = in.boolean();
  row.created = wall_from_usec(in.u64());
  row.last_unlock = wall_from_usec(in.u64());

  if (const auto whole = in.finish(Reason::kStoreDamaged, "registry row"); !whole) {
    return pass(whole.error(), "read the registry");
  }
  if (const auto sound = require_sound(row); !sound)
    return pass(sound.error(), "read the registry");
  return row;
}

}  // namespace coffer::agent
