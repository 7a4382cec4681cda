// SPDX-License-Identifier: Apache-2.0
#include "agent/reader/header_batch.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <memory>
#include <string>

#include "core/base/files.h"

namespace coffer::agent {
namespace {

constexpr std::size_t kSlotBytes = 8 + 4 + 8;

struct Unmap {
  std::size_t size_bytes = 0;
  void operator()(const std::byte* pages) const noexcept {
    // munmap takes what mmap gave, which was never const.
    ::munmap(const_cast<std::byte*>(pages), size_bytes);  // NOLINT(*-const-cast)
  }
};
using Mapped = std::unique_ptr<const std::byte, Unmap>;

Result<std::uint64_t> sealed_size(int memfd) {
  if (const auto sealed = require_sealed(memfd); !sealed) return tl::unexpected(sealed.error());
  struct stat status{};
  if (::fstat(memfd, &status) != 0) return fail_errno(errno, "look at a memfd");
  return static_cast<std::uint64_t>(status.st_size);
}

// Sealed: the length cannot shrink below what is mapped, so reading it never faults.
Result<Mapped> map(int memfd, std::uint64_t size_bytes) {
  if (size_bytes == 0) return Mapped();
  void* pages = ::mmap(nullptr, size_bytes, PROT_READ, MAP_SHARED, memfd, 0);
  if (pages == MAP_FAILED) return fail_errno(errno, "map a memfd");
  return Mapped(static_cast<const std::byte*>(pages), Unmap{size_bytes});
}

bool inside(const HeaderSlot& slot, std::uint64_t size_bytes) {
  return slot.offset_bytes <= size_bytes && slot.length_bytes <= size_bytes - slot.offset_bytes;
}

}  // namespace

Bytes encode_slots(std::span<const HeaderSlot> slots) {
  ByteWriter out;
  out.u32(static_cast<std::uint32_t>(slots.size()));
  for (const auto& slot : slots)
    out.u64(slot.offset_bytes).u32(slot.length_bytes).u64(slot.device_bytes);
  return out.take();
}

Result<std::vector<HeaderSlot>> decode_slots(ByteView body) {
  ByteReader in(body);
  std::vector<HeaderSlot> slots(in.count(kHeaderSlotsMax, kSlotBytes));
  for (auto& slot : slots) {
    slot.offset_bytes = in.u64();
    slot.length_bytes = in.u32();
    slot.device_bytes = in.u64();
    if (slot.length_bytes > luks2::kReaderBytes) in.reject();
  }
  if (const auto end = in.finish(Reason::kMessageInvalid, "a list of headers"); !end)
    return tl::unexpected(end.error());
  return slots;
}

Result<UniqueFd> check_batch(int memfd, std::span<const HeaderSlot> slots) {
  const auto size_bytes = sealed_size(memfd);
  if (!size_bytes) return pass(size_bytes.error(), "take a batch of headers");
  const auto pages = map(memfd, *size_bytes);
  if (!pages) return pass(pages.error(), "take a batch of headers");

  ByteWriter out;
  for (const auto& slot : slots) {
    if (!inside(slot, *size_bytes))
      return fail(Reason::kMessageInvalid, "a header lies outside of its batch");
    const auto start = *size_bytes == 0
                           ? ByteView()
                           : ByteView(pages->get() + slot.offset_bytes, slot.length_bytes);
    out.bytes(luks2::encode_outcome(luks2::check_header(start, slot.device_bytes)));
  }
  return sealed_memfd_of("coffer-outcomes", out.view());
}

Result<std::vector<luks2::CheckOutcome>> read_outcomes(int memfd, std::size_t count) {
  const auto bytes = read_sealed_memfd(memfd, count * (luks2::kCheckOutcomeBytesMax + 4));
  if (!bytes) return pass(bytes.error(), "take the reader's answer");
  ByteReader in(*bytes);
  std::vector<luks2::CheckOutcome> outcomes;
  outcomes.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    auto outcome = luks2::decode_outcome(in.bytes(luks2::kCheckOutcomeBytesMax));
    if (!outcome) return pass(outcome.error(), "take the reader's answer");
    outcomes.push_back(std::move(*outcome));
  }
  if (const auto end = in.finish(Reason::kMessageInvalid, "the reader's answer"); !end)
    return tl::unexpected(end.error());
  return outcomes;
}

Result<UniqueFd> sealed_memfd_of(const char* name, ByteView content) {
  auto memfd = make_memfd(name, content.size());
  if (!memfd) return tl::unexpected(memfd.error());
  if (const auto written = write_exactly_at(memfd->get(), content, 0); !written)
    return tl::unexpected(written.error());
  if (const auto sealed = seal_memfd(memfd->get()); !sealed) return tl::unexpected(sealed.error());
  return std::move(*memfd);
}

Result<Bytes> read_sealed_memfd(int memfd, std::size_t size_max) {
  const auto size_bytes = sealed_size(memfd);
  if (!size_bytes) return tl::unexpected(size_bytes.error());
  if (*size_bytes > size_max) return fail(Reason::kMessageInvalid, "a memfd is above its limit");
  Bytes bytes(*size_bytes);
  if (const auto got = read_exactly_at(memfd, bytes, 0); !got) return tl::unexpected(got.error());
  return bytes;
}

}  // namespace coffer::agent
