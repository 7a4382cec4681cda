// SPDX-License-Identifier: Apache-2.0
#include "hsm/setup_process.h"

#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): setenv.
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <utility>

#include "core/ipc/channel.h"
#include "hsm/call_watch.h"
#include "hsm/pkcs11_errors.h"
#include "hsm/pkcs11_module.h"
#include "hsm/setup_protocol.h"
#include "hsm/token_setup.h"

namespace coffer::hsm {
namespace {

constexpr std::chrono::seconds kAnswerDeadline{30};
// Making a token takes longer than using one.
constexpr std::chrono::seconds kCallDeadline{60};
constexpr int kExitHang = 75;

// Percent-encodes all but letters, digits and "-._".
std::string escaped(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_';
    if (plain)
      out += c;
    else
      (((out += '%') += kDigits[byte >> 4U]) += kDigits[byte & 0xFU]);
  }
  return out;
}

Result<SetupAnswer> set_up(const SetupRequest& request, CallWatch& watch) {
  if (!request.softhsm_conf.empty()) ::setenv("SOFTHSM2_CONF", request.softhsm_conf.c_str(), 1);
  auto module = Pkcs11Module::load(request.module_path, &watch);
  if (!module) return tl::unexpected(module.error());
  if (const CK_RV rv = (*module)->initialize(); rv != CKR_OK)
    return fail_return(rv, "initialise the PKCS#11 module");

  SetupAnswer out;
  Pkcs11Uri uri;
  if (request.new_token_label.empty()) {
    auto given = Pkcs11Uri::parse(request.uri);
    if (!given) return tl::unexpected(given.error());
    if (!given->names_token()) return fail(Reason::kConfigInvalid, "the URI names no token");
    uri = std::move(*given);
    out.uri = request.uri;
  } else {
    const auto token = make_token(**module, request.new_token_label, request.pin);
    if (!token) return tl::unexpected(token.error());
    uri.token = token->label;
    uri.serial = token->serial;
    out.uri = "pkcs11:token=" + escaped(token->label) + ";serial=" + escaped(token->serial);
  }

  const auto slot = (*module)->find_token(uri);
  if (!slot) return tl::unexpected(slot.error());
  out.kind = slot->hardware ? keyring::TokenKind::kHardware : keyring::TokenKind::kSoftware;
  std::optional<PinMark> mark;
  if (!request.pin_mark_file.empty()) mark.emplace(request.pin_mark_file);
  PinMark* const noted = mark ? &*mark : nullptr;
  const SecretBytes* const seed = request.seed.empty() ? nullptr : &request.seed;
  auto keys = request.look_only ? look_at_token_keys(**module, uri, request.pin, noted)
                                : make_token_keys(**module, uri, request.pin, seed, noted);
  if (!keys) return tl::unexpected(keys.error());
  out.root_id = std::move(keys->root_id);
  out.keys_were_there = keys->found == KeySet::kWhole;
  out.root_never_left = keys->root_never_left;
  return out;
}

}  // namespace

int run_setup_process(int fd) {
  ipc::Channel channel{UniqueFd(fd)};
  const auto message = channel.receive_secret(Deadline::after(kAnswerDeadline));
  if (!message) return EXIT_FAILURE;
  CallWatch watch(kCallDeadline, [] { ::_exit(kExitHang); });
  auto request = decode_setup(message->bytes.reveal());
  const auto answer =
      request ? set_up(*request, watch) : Result<SetupAnswer>(tl::unexpected(request.error()));
  const auto sent = channel.send(encode_setup_answer(answer), {}, Deadline::after(kAnswerDeadline));
  return sent ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace coffer::hsm
