// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include <chrono>
#include <optional>
#include <variant>

#include "agent/reader/header_batch.h"
#include "agent/worker/crypt_volume.h"
#include "agent/worker/one_shot.h"
#include "agent/worker/token_writer.h"
#include "core/base/files.h"
#include "core/ipc/frame.h"
#include "core/luks2/token.h"

namespace coffer::agent {
namespace {

constexpr std::chrono::seconds kRequestPatience{10};
// libcryptsetup wants at least the room of its default layout.
constexpr std::uint64_t kHeaderFileBytes = std::uint64_t{16} << 20U;

std::string fd_path(const UniqueFd& fd) {
  return "/proc/self/fd/" + std::to_string(fd.get());
}

// The node that the request names must be the device that the worker holds open.
Result<void> require_same_device(const std::string& path, int fd) {
  struct stat named{};
  struct stat held{};
  if (::stat(path.c_str(), &named) != 0 || ::fstat(fd, &held) != 0)
    return fail(Reason::kDeviceChanged, path + " is gone");
  const bool same = S_ISBLK(held.st_mode)
                        ? S_ISBLK(named.st_mode) && named.st_rdev == held.st_rdev
                        : named.st_ino == held.st_ino && named.st_dev == held.st_dev;
  if (!same) return fail(Reason::kDeviceChanged, path + " is not the device that was scanned");
  return {};
}

Result<OneShotReply> open_volume(const OneShotRequest& request, const std::vector<UniqueFd>& fds,
                                 const SecretBytes& key) {
  if (fds.size() != 2) return fail(Reason::kMessageInvalid, "header and device are missing");
  const auto data_path =
      request.data_path.starts_with("/proc/self/fd/") ? fd_path(fds[1]) : request.data_path;
  if (const auto same = require_same_device(data_path, fds[1].get()); !same)
    return tl::unexpected(same.error());

  auto volume = CryptVolume::load({fd_path(fds[0]), data_path});
  if (!volume) return tl::unexpected(volume.error());
  if (const auto pinned = volume->require_profile(request.profile); !pinned)
    return tl::unexpected(pinned.error());
  if (const auto right = volume->verify(key); !right) return tl::unexpected(right.error());
  OneShotReply reply;
  if (request.mode == OneShotRequest::Mode::kVerify) return reply;

  const auto done = volume->activate({request.mapping, request.read_only, request.allow_discards,
                                      request.no_read_workqueue, request.no_write_workqueue},
                                     key);
  if (!done) return tl::unexpected(done.error());
  reply.boot_usec = static_cast<std::uint64_t>(system_clock().since_boot().count());
  return reply;
}

// What was built must be what was asked for, by the parser that will judge it from now on.
Result<void> require_built(const OneShotRequest& request, const luks2::CheckOutcome& outcome) {
  const auto* header = std::get_if<luks2::CheckedHeader>(&outcome);
  if (header == nullptr)
    return pass(std::get<luks2::Refusal>(outcome).error(), "read the new header back");
  if (header->activation) return pass(header->activation->error(), "read the new header back");
  const auto difference = luks2::first_difference(request.profile, *header->profile);
  if (difference)
    return fail(Reason::kProfileMismatch, *difference + ": the new header has another value");
  if (header->token_refusal) return pass(header->token_refusal->error(), "read the token back");
  return {};
}

Result<OneShotReply> reply_with_header(const luks2::CheckOutcome& outcome, const Bytes& both) {
  OneShotReply reply;
  reply.outcome = luks2::encode_outcome(outcome);
  auto sealed = sealed_memfd_of("coffer-new-header", both);
  if (!sealed) return tl::unexpected(sealed.error());
  reply.header = std::move(*sealed);
  return reply;
}

Result<OneShotReply> build_header(const OneShotRequest& request, const SecretBytes& key) {
  if (const auto token = luks2::parse_token(request.token_json); !token)
    return pass(token.error(), "check the token");
  const auto& profile = request.profile;
  const auto area = 2 * profile.metadata_bytes + profile.keyslots_bytes;
  const auto header = make_memfd("coffer-header", std::max(kHeaderFileBytes, area));
  const auto data = make_memfd("coffer-data", request.data_bytes);
  if (!header || !data) return fail(Reason::kNoMemory, "make room for a header");
  const auto formatted = CryptVolume::format({fd_path(*header), fd_path(*data)}, profile, key,
                                             {request.label, request.token_json});
  if (!formatted) return tl::unexpected(formatted.error());

  Bytes both(2 * profile.metadata_bytes);
  if (const auto got = read_exactly_at(header->get(), both, 0); !got)
    return tl::unexpected(got.error());
  const auto outcome = luks2::check_header(both, request.header_bytes);
  if (const auto right = require_built(request, outcome); !right)
    return tl::unexpected(right.error());

  // The library itself must take header and key as well.
  auto volume = CryptVolume::load({fd_path(*header), fd_path(*data)});
  if (!volume) return tl::unexpected(volume.error());
  if (const auto right = volume->verify(key); !right) return tl::unexpected(right.error());
  return reply_with_header(outcome, both);
}

// The header stands in a file of ours: what the library writes, it writes there.
Result<OneShotReply> replace_token(const OneShotRequest& request,
                                   const std::vector<UniqueFd>& fds) {
  if (fds.size() != 1) return fail(Reason::kMessageInvalid, "the header is missing");
  const auto token = luks2::parse_token(request.token_json);
  if (!token) return pass(token.error(), "check the token");
  Bytes both(2 * request.profile.metadata_bytes);
  const auto read_both = [&] { return read_exactly_at(fds[0].get(), both, 0); };
  if (const auto got = read_both(); !got) return tl::unexpected(got.error());
  const auto before = luks2::as_result(luks2::check_header(both, request.header_bytes));
  if (!before) return pass(before.error(), "read the checked header");

  auto volume = CryptVolume::load_header(fd_path(fds[0]));
  if (!volume) return tl::unexpected(volume.error());
  if (const auto pinned = volume->require_profile(request.profile); !pinned)
    return tl::unexpected(pinned.error());
  if (const auto set = volume->replace_token(before->token_id, request.token_json); !set)
    return tl::unexpected(set.error());
  if (const auto got = read_both(); !got) return tl::unexpected(got.error());
  const auto outcome = luks2::check_header(both, request.header_bytes);
  const auto after = luks2::as_result(outcome);
  if (!after) return pass(after.error(), "read the new header back");
  if (const auto right = require_only_token_changed(*before, *after, *token); !right)
    return tl::unexpected(right.error());
  return reply_with_header(outcome, both);
}

Result<OneShotReply> carry_out(ipc::Channel& channel) {
  const auto patience = Deadline::after(kRequestPatience);
  const auto message = channel.receive(patience);
  if (!message) return tl::unexpected(message.error());
  const auto request = OneShotRequest::decode(message->bytes);
  if (!request) return tl::unexpected(request.error());
  if (request->mode == OneShotRequest::Mode::kReplaceToken)
    return replace_token(*request, message->fds);
  const auto key = channel.receive_secret(patience);
  if (!key) return pass(key.error(), "receive the key");
  if (key->bytes.size() != request->profile.key_bytes)
    return fail(Reason::kWrongKey, "the key has not the length that the profile says");
  if (request->mode == OneShotRequest::Mode::kBuild) return build_header(*request, key->bytes);
  return open_volume(*request, message->fds, key->bytes);
}

}  // namespace

int run_one_shot(UniqueFd socket) {
  ipc::Channel channel(std::move(socket), Reason::kWorkerLost);
  // Before the library starts whatever it starts.
  const auto keyring = make_process_keyring();
  auto reply = keyring ? carry_out(channel) : Result<OneShotReply>(tl::unexpected(keyring.error()));

  ByteWriter out;
  out.boolean(reply.has_value());
  if (reply)
    out.u64(reply->boot_usec).bytes(reply->outcome);
  else
    out.raw(ipc::encode_error(reply.error()));
  const int header = reply ? reply->header.get() : -1;
  const auto fds = std::span(&header, header >= 0 ? 1 : 0);
  const auto sent = channel.send(out.view(), fds, Deadline::after(kRequestPatience));
  return reply && sent ? 0 : 1;
}

}  // namespace coffer::agent
