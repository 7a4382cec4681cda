// SPDX-License-Identifier: Apache-2.0
#include "hsm/setup_protocol.h"

#include <algorithm>
#include <utility>

#include "core/base/bytes.h"
#include "core/ipc/frame.h"

namespace coffer::hsm {
namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kTextBytesMax = 1024;
constexpr std::size_t kPinBytesMax = 255;
constexpr std::size_t kSeedBytesMax = 64;

}  // namespace

Result<SecretBytes> encode_setup(const SetupRequest& request) {
  if (request.pin.size() > kPinBytesMax || request.seed.size() > kSeedBytesMax)
    return fail(Reason::kInvalidArgs, "the PIN or the seed is too long");
  ByteWriter head;
  head.u8(kVersion).text(request.module_path).text(request.softhsm_conf);
  head.text(request.new_token_label).text(request.uri);
  head.text(request.pin_mark_file).boolean(request.look_only);
  head.u32(static_cast<std::uint32_t>(request.pin.size()));
  head.u32(static_cast<std::uint32_t>(request.seed.size()));

  auto out = SecretBytes::zeroed(head.size() + request.pin.size() + request.seed.size());
  if (!out) return out;
  auto at = std::ranges::copy(head.view(), out->reveal_mutable().begin()).out;
  at = std::ranges::copy(request.pin.reveal(), at).out;
  std::ranges::copy(request.seed.reveal(), at);
  return out;
}

Result<SetupRequest> decode_setup(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  SetupRequest out;
  if (in.u8() != kVersion) in.reject();
  out.module_path = in.text(kTextBytesMax);
  out.softhsm_conf = in.text(kTextBytesMax);
  out.new_token_label = in.text(kTextBytesMax);
  out.uri = in.text(kTextBytesMax);
  out.pin_mark_file = in.text(kTextBytesMax);
  out.look_only = in.boolean();
  const std::size_t pin_bytes = in.u32();
  const std::size_t seed_bytes = in.u32();
  if (pin_bytes > kPinBytesMax || seed_bytes > kSeedBytesMax) in.reject();
  auto pin = SecretBytes::copy_of(in.raw(pin_bytes));
  if (!pin) return tl::unexpected(pin.error());
  auto seed = SecretBytes::copy_of(in.raw(seed_bytes));
  if (!seed) return tl::unexpected(seed.error());
  if (const auto end = in.finish(Reason::kMessageInvalid, "a setup request"); !end)
    return tl::unexpected(end.error());
  out.pin = std::move(*pin);
  out.seed = std::move(*seed);
  return out;
}

Bytes encode_setup_answer(const Result<SetupAnswer>& answer) {
  ByteWriter out;
  out.u8(kVersion).boolean(answer.has_value());
  if (!answer) return out.bytes(ipc::encode_error(answer.error())).take();
  out.text(answer->uri).text(answer->root_id);
  out.boolean(answer->keys_were_there).boolean(answer->root_never_left);
  out.u8(static_cast<std::uint8_t>(answer->kind));
  return out.take();
}

Result<SetupAnswer> decode_setup_answer(ByteView bytes) {
  ByteReader in(bytes);
  if (in.u8() != kVersion) in.reject();
  if (!in.boolean()) {
    const auto error = ipc::decode_error(in.bytes(ipc::kErrorTextBytesMax + 16));
    if (const auto end = in.finish(Reason::kMessageInvalid, "a setup answer"); !end)
      return tl::unexpected(end.error());
    return tl::unexpected(error ? *error : error.error());
  }
  SetupAnswer out;
  out.uri = in.text(kTextBytesMax);
  out.root_id = in.text(64);
  out.keys_were_there = in.boolean();
  out.root_never_left = in.boolean();
  const auto kind = in.u8();
  if (kind != 1 && kind != 2) in.reject();
  out.kind = static_cast<keyring::TokenKind>(kind);
  if (const auto end = in.finish(Reason::kMessageInvalid, "a setup answer"); !end)
    return tl::unexpected(end.error());
  return out;
}

}  // namespace coffer::hsm
