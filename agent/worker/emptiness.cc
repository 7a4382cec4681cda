// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/emptiness.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "core/base/encoding.h"
#include "core/base/files.h"
#include "core/crypto/digest.h"

namespace coffer::agent {
namespace {

constexpr std::size_t kAreaBytes = std::size_t{1} << 20U;
constexpr std::size_t kAlignment = 4096;
constexpr std::size_t kConfirmationBytes = 16;

// Memory that O_DIRECT takes.
struct FreeAligned {
  void operator()(std::byte* bytes) const noexcept { std::free(bytes); }  // NOLINT(*-no-malloc)
};
using Aligned = std::unique_ptr<std::byte, FreeAligned>;

Aligned aligned_area() {
  return Aligned(static_cast<std::byte*>(std::aligned_alloc(kAlignment, kAreaBytes)));
}

struct Areas {
  Aligned start_memory = aligned_area();
  Aligned end_memory = aligned_area();
  ByteView start;
  ByteView end;  // Overlaps `start` on a device shorter than 2 MiB.
};

Result<Areas> read_areas(const OpenDevice& device) {
  Areas areas;
  if (!areas.start_memory || !areas.end_memory) return fail(Reason::kNoMemory, "read a device");
  const auto size_bytes = device.identity.size_bytes;
  const auto area_bytes = static_cast<std::size_t>(std::min<std::uint64_t>(size_bytes, kAreaBytes));
  const std::span start(areas.start_memory.get(), area_bytes);
  const std::span end(areas.end_memory.get(), area_bytes);
  if (const auto got = read_exactly_at(device.fd.get(), start, 0); !got)
    return pass(got.error(), "read the start of " + device.identity.node);
  const auto tail = static_cast<off_t>(size_bytes - area_bytes);
  if (const auto got = read_exactly_at(device.fd.get(), end, tail); !got)
    return pass(got.error(), "read the end of " + device.identity.node);
  areas.start = start;
  areas.end = end;
  return areas;
}

bool all_zero(ByteView bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

// Where known formats have their magic bytes. Only for words in a message: what is not here is
// still data.
struct Signature {
  std::size_t offset_bytes;
  std::string_view magic;
  std::string_view name;
};
using namespace std::string_view_literals;
constexpr std::array kSignatures{
    Signature{0, "LUKS\xba\xbe\0\2"sv, "LUKS2 volume"},
    Signature{0, "LUKS\xba\xbe\0\1"sv, "LUKS1 volume"},
    Signature{0x4000, "SKUL\xba\xbe"sv, "LUKS2 volume (second header)"},
    Signature{0x8000, "SKUL\xba\xbe"sv, "LUKS2 volume (second header)"},
    Signature{0x10000, "SKUL\xba\xbe"sv, "LUKS2 volume (second header)"},
    Signature{0x438, "\x53\xef"sv, "ext file system"},
    Signature{0, "XFSB"sv, "XFS file system"},
    Signature{0x10040, "_BHRfS_M"sv, "btrfs file system"},
    Signature{0x200, "EFI PART"sv, "GPT partition table"},
    Signature{0x1000, "EFI PART"sv, "GPT partition table"},
    Signature{0x218, "LVM2 001"sv, "LVM physical volume"},
    Signature{0x18, "LVM2 001"sv, "LVM physical volume"},
    Signature{0xff6, "SWAPSPACE2"sv, "swap area"},
    Signature{0x1000, "\xfc\x4e\x2b\xa9"sv, "RAID member"},
    Signature{0, "\xfc\x4e\x2b\xa9"sv, "RAID member"},
    Signature{3, "NTFS    "sv, "NTFS file system"},
    Signature{0x52, "FAT32"sv, "FAT file system"},
    Signature{0x36, "FAT1"sv, "FAT file system"},
    Signature{0, "-FVE-FS-"sv, "BitLocker volume"},
    Signature{0x1fe, "\x55\xaa"sv, "MBR partition table"},
};

bool at(ByteView bytes, const Signature& signature) {
  return signature.offset_bytes + signature.magic.size() <= bytes.size() &&
         as_text(bytes.subspan(signature.offset_bytes, signature.magic.size())) == signature.magic;
}

void hash_identity(crypto::Sha256& hash, const DeviceIdentity& identity) {
  ByteWriter out;
  out.text(identity.node).u32(identity.major).u32(identity.minor).u64(identity.size_bytes);
  out.u64(identity.sequence);
  hash.update(out.view());
}

}  // namespace

std::string name_content(ByteView start, ByteView end) {
  for (const auto& signature : kSignatures)
    if (at(start, signature)) return std::string(signature.name);
  if (all_zero(start) && !all_zero(end)) return "data at its end";
  return "data of an unknown kind";
}

Result<Emptiness> look_for_data(const HeldDevice& device) {
  Emptiness seen;
  crypto::Sha256 hash;
  hash.update(as_bytes("coffer confirmation 1"));
  const auto look = [&](const OpenDevice& one) -> Result<void> {
    const auto areas = read_areas(one);
    if (!areas) return tl::unexpected(areas.error());
    hash_identity(hash, one.identity);
    hash.update(areas->start).update(areas->end);
    if (all_zero(areas->start) && all_zero(areas->end)) return {};
    seen.found += (seen.found.empty() ? "" : ", ") + name_content(areas->start, areas->end) +
                  " on " + one.identity.node;
    return {};
  };
  if (const auto looked = look(device.device); !looked) return tl::unexpected(looked.error());
  if (device.header_device)
    if (const auto looked = look(*device.header_device); !looked)
      return tl::unexpected(looked.error());
  seen.empty = seen.found.empty();
  const auto digest = hash.finish();
  seen.confirmation = to_hex(ByteView(digest).first(kConfirmationBytes));
  return seen;
}

Result<void> require_empty_or_confirmed(const Emptiness& seen, const std::string& confirmation) {
  if (seen.empty || seen.confirmation == confirmation) return {};
  if (confirmation.empty())
    return fail(Reason::kForeignData,
                "there is " + seen.found + "; to overwrite it, confirm with " + seen.confirmation);
  return fail(Reason::kConfirmMismatch,
              "that confirms another device or another content: there is " + seen.found);
}

}  // namespace coffer::agent
