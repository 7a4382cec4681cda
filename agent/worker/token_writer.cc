// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/token_writer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <variant>

#include "agent/reader/header_batch.h"
#include "agent/worker/header_lock.h"
#include "core/base/files.h"

namespace coffer::agent {
namespace {

// libcryptsetup wants at least the room of its default layout.
constexpr std::uint64_t kHeaderFileBytes = std::uint64_t{16} << 20U;
constexpr std::size_t kBlockBytes = 4096;
constexpr std::chrono::seconds kLockPatience{5};

// Both copies as they shall be.
struct NextHeader {
  Bytes bytes;
  luks2::CheckedHeader header;
};

Result<NextHeader> read_next(const OneShotReply& reply, std::uint64_t metadata_bytes) {
  auto bytes = read_sealed_memfd(reply.header.get(), 2 * metadata_bytes);
  if (!bytes) return pass(bytes.error(), "take the new header");
  auto outcome = luks2::decode_outcome(reply.outcome);
  if (!outcome) return pass(outcome.error(), "take the new header");
  auto* checked = std::get_if<luks2::CheckedHeader>(&*outcome);
  if (checked == nullptr || bytes->size() != 2 * metadata_bytes)
    return fail(Reason::kInternal, "the new header was refused");
  return NextHeader{std::move(*bytes), std::move(*checked)};
}

// Whether `device` starts with `bytes`, read past the page cache where it can be.
Result<bool> starts_with(const OpenDevice& device, ByteView bytes) {
  alignas(kBlockBytes) std::array<std::byte, kBlockBytes> block{};  // As O_DIRECT wants it.
  for (std::size_t offset = 0; offset < bytes.size(); offset += kBlockBytes) {
    const auto got = read_exactly_at(device.fd.get(), block, static_cast<off_t>(offset));
    if (!got) return pass(got.error(), "read the header of " + device.identity.node);
    if (!std::ranges::equal(block, bytes.subspan(offset, kBlockBytes))) return false;
  }
  return true;
}

// Writes `next` over the header that was scanned, or nothing.
Result<void> exchange(const HeldDevice& device, const NextHeader& next, Deadline deadline,
                      const AfterStep& after_step) {
  const auto& where = device.where_header_is();
  const auto& node = where.identity.node;
  const auto patience = Deadline::after(kLockPatience);
  const auto lock = lock_header(where, patience.at() < deadline.at() ? patience : deadline);
  if (!lock) return tl::unexpected(lock.error());
  const auto fd = open_shared(where);
  if (!fd) return tl::unexpected(fd.error());
  const auto scanned = device.image.bytes();
  const auto same = starts_with(where, ByteView(scanned).first(next.bytes.size()));
  if (!same) return tl::unexpected(same.error());
  if (!*same)
    return fail(Reason::kDeviceChanged, "the header on " + node + " was changed meanwhile");

  const auto written = rewrite_header(fd->get(), next.bytes, device.header->copies, after_step);
  if (!written) return pass(written.error(), "change the header on " + node);
  const auto stands = starts_with(where, next.bytes);
  if (!stands) return pass(stands.error(), "read back");
  if (!*stands) return fail(Reason::kIoError, "the header on " + node + " reads back otherwise");
  return {};
}

}  // namespace

Result<void> require_replaceable(const luks2::Token& now, const luks2::Token& next) {
  const auto refuse = [](const char* what) {
    return fail(Reason::kTokenInvalid, std::string("coffer token: ") + what + " would change");
  };
  if (next.generation != now.generation) return refuse("generation");
  if (next.threshold != now.threshold) return refuse("threshold");
  if (next.context != now.context) return refuse("context");
  if (next.keyslots != now.keyslots) return refuse("keyslots");
  if (next.wraps.size() != now.wraps.size()) return refuse("the number of wraps");
  return {};
}

Result<void> require_only_token_changed(const luks2::CheckedHeader& before,
                                        const luks2::CheckedHeader& after,
                                        const luks2::Token& token) {
  luks2::CheckedHeader expected = before;
  expected.epoch = before.epoch + 1;
  expected.copies = luks2::Copies::kBoth;
  expected.json_sha256 = after.json_sha256;
  expected.copy_sha256 = after.copy_sha256;
  expected.json_used_bytes = after.json_used_bytes;
  expected.json_free_bytes = after.json_free_bytes;
  expected.token = token;
  if (after == expected) return {};
  return fail(Reason::kHeaderUnusual, "more than the token would change in the header");
}

Result<void> TokenWriter::replace(const HeldDevice& device, const std::string& token_json,
                                  Deadline deadline, const AfterStep& after_step) {
  const auto next_token = luks2::parse_token(token_json);
  if (!next_token) return tl::unexpected(next_token.error());
  if (!device.header)
    return fail(Reason::kDeviceChanged,
                "no good header was read from " + device.where_header_is().identity.node);
  const luks2::CheckedHeader& now = *device.header;
  if (now.activation) return tl::unexpected(now.activation->error());
  if (!now.profile) return fail(Reason::kHeaderUnusual, "the header fits no profile");
  if (!now.token)
    return now.token_refusal ? tl::unexpected(now.token_refusal->error())
                             : fail(Reason::kTokenMissing, "the header has no coffer token");
  if (const auto allowed = require_replaceable(*now.token, *next_token); !allowed) return allowed;
  for (const auto* one : {&device.device, &device.where_header_is()})
    if (const auto same = require_unchanged(*one); !same) return same;

  OneShotRequest request;
  request.mode = OneShotRequest::Mode::kReplaceToken;
  request.profile = *now.profile;
  request.header_bytes = device.where_header_is().identity.size_bytes;
  request.token_json = token_json;
  const auto area = 2 * now.profile->metadata_bytes + now.profile->keyslots_bytes;
  const auto memfd = device.image.to_memfd(std::max(kHeaderFileBytes, area));
  if (!memfd) return pass(memfd.error(), "lay out the checked header");
  const int fd = memfd->get();
  const auto end = runner_.run(request, std::span(&fd, 1), nullptr, deadline);
  if (!end.reply) return pass(end.reply.error(), "make the new header");
  const auto next = read_next(*end.reply, now.profile->metadata_bytes);
  if (!next) return tl::unexpected(next.error());
  if (const auto right = require_only_token_changed(now, next->header, *next_token); !right)
    return right;
  return exchange(device, *next, deadline, after_step);
}

}  // namespace coffer::agent
