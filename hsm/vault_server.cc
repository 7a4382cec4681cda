// SPDX-License-Identifier: Apache-2.0
#include "hsm/vault_server.h"

#include <algorithm>
#include <utility>

#include "hsm/vault_protocol.h"

namespace coffer::hsm {
namespace {

using keyring::Presented;
using keyring::Purpose;

ipc::Reply reply(Bytes body) {
  ipc::Reply out;
  out.body = std::move(body);
  return out;
}

// The vault refuses it too; a DEK on its way to a caller is worth two refusals.
Result<void> require_no_volume(std::span<const Presented> keys) {
  const bool none = std::ranges::none_of(
      keys, [](const Presented& key) { return key.context.purpose == Purpose::kVolumeKey; });
  if (none) return {};
  return fail(Reason::kWrongPurpose, "a volume's key is only ever delivered");
}

}  // namespace

Result<ipc::Reply> VaultServer::handle(const ipc::Request& request) {
  const auto timed = decode_request_time(request.body);
  if (!timed) return tl::unexpected(timed.error());
  const ByteView body = timed->body;
  const Deadline deadline(request.received + timed->time);
  if (deadline.passed())
    return fail(Reason::kHsmTimeout,
                "the vault is busy: the request waited until its time was over");
  auto answer = [&]() -> Result<ipc::Reply> {
    switch (static_cast<VaultRequest>(request.type)) {
      case VaultRequest::kCreateCmk:
        return create(body);
      case VaultRequest::kChangeCmk:
        return change(body);
      case VaultRequest::kPresent:
        return present(body);
      case VaultRequest::kWrap:
        return wrap(body, deadline);
      case VaultRequest::kUnwrap:
        return unwrap(body, deadline);
      case VaultRequest::kMakeDeks:
        return make_deks(body, deadline);
      case VaultRequest::kDeliver:
        return deliver(body, deadline);
      case VaultRequest::kRandom:
        return random(body);
      case VaultRequest::kHealth:
        return health(body);
      case VaultRequest::kRewrap:
        return rewrap(body, deadline);
      case VaultRequest::kSign:
        return sign(body, deadline);
      case VaultRequest::kDecrypt:
        return decrypt(body, deadline);
      case VaultRequest::kPrepareImport:
        return prepare_import(body);
      case VaultRequest::kImportMaterial:
        return import_material(body);
      case VaultRequest::kMakeSharedDek:
        return make_shared_dek(body, deadline);
    }
    return fail(Reason::kMessageInvalid, "the vault knows no such request");
  }();
  if (answer && answer->body.size() + answer->secret.size() > ipc::kFrameBodyBytesMax)
    return fail(Reason::kLimitsExceeded, "the answer does not fit into a message");
  return answer;
}

Result<ipc::Reply> VaultServer::create(ByteView body) {
  const auto parameters = decode_parameters(body);
  if (!parameters) return tl::unexpected(parameters.error());
  auto record = vault_.create_cmk(*parameters);
  if (!record) return tl::unexpected(record.error());
  return reply(std::move(*record));
}

Result<ipc::Reply> VaultServer::change(ByteView body) {
  const auto request = decode_change(body);
  if (!request) return tl::unexpected(request.error());
  auto record = vault_.change_cmk(request->record, request->change);
  if (!record) return tl::unexpected(record.error());
  return reply(std::move(*record));
}

Result<ipc::Reply> VaultServer::present(ByteView body) {
  const auto presented = vault_.present(body);
  if (!presented) return tl::unexpected(presented.error());
  return ipc::Reply();
}

Result<ipc::Reply> VaultServer::wrap(ByteView body, Deadline deadline) {
  const auto request = decode_wrap(body);
  if (!request) return tl::unexpected(request.error());
  return reply(encode_results(vault_.wrap(request->record, request->keys, deadline)));
}

Result<ipc::Reply> VaultServer::unwrap(ByteView body, Deadline deadline) {
  const auto request = decode_unwrap(body);
  if (!request) return tl::unexpected(request.error());
  if (const auto allowed = require_no_volume(request->keys); !allowed)
    return tl::unexpected(allowed.error());
  auto results = encode_results(vault_.unwrap(request->record, request->keys, deadline));
  if (!results) return tl::unexpected(results.error());
  ipc::Reply out;
  out.secret = std::move(*results);
  return out;
}

Result<ipc::Reply> VaultServer::make_deks(ByteView body, Deadline deadline) {
  const auto request = decode_make_deks(body);
  if (!request) return tl::unexpected(request.error());
  return reply(encode_results(vault_.make_deks(request->record, request->contexts, request->ticket,
                                               request->first_index, deadline)));
}

Result<ipc::Reply> VaultServer::make_shared_dek(ByteView body, Deadline deadline) {
  const auto request = decode_shared_request(body);
  if (!request) return tl::unexpected(request.error());
  const auto made = vault_.make_shared_dek(*request, deadline);
  if (!made) return tl::unexpected(made.error());
  return reply(encode_shared_dek(*made));
}

Result<ipc::Reply> VaultServer::deliver(ByteView body, Deadline deadline) {
  const auto request = decode_deliver(body);
  if (!request) return tl::unexpected(request.error());
  return reply(encode_results(
      vault_.deliver(request->record, request->keys, request->ticket, request->indexes, deadline)));
}

Result<ipc::Reply> VaultServer::rewrap(ByteView body, Deadline deadline) {
  const auto request = decode_rewrap(body);
  if (!request) return tl::unexpected(request.error());
  return reply(encode_results(vault_.rewrap(request->from, request->to, request->keys, deadline)));
}

Result<ipc::Reply> VaultServer::sign(ByteView body, Deadline deadline) {
  const auto request = decode_sign(body);
  if (!request) return tl::unexpected(request.error());
  return reply(
      encode_results(vault_.sign(request->record, request->scheme, request->digests, deadline)));
}

Result<ipc::Reply> VaultServer::decrypt(ByteView body, Deadline deadline) {
  const auto request = decode_decrypt(body);
  if (!request) return tl::unexpected(request.error());
  auto results = encode_results(
      vault_.decrypt(request->record, request->scheme, request->ciphertexts, deadline));
  if (!results) return tl::unexpected(results.error());
  ipc::Reply out;
  out.secret = std::move(*results);
  return out;
}

Result<ipc::Reply> VaultServer::prepare_import(ByteView body) {
  const auto request = decode_prepare_import(body);
  if (!request) return tl::unexpected(request.error());
  const auto prepared = vault_.prepare_import(request->record, request->wrapping);
  if (!prepared) return tl::unexpected(prepared.error());
  return reply(encode_import_parameters(*prepared));
}

Result<ipc::Reply> VaultServer::import_material(ByteView body) {
  const auto request = decode_import(body);
  if (!request) return tl::unexpected(request.error());
  auto record = vault_.import_material(request->record, request->material);
  if (!record) return tl::unexpected(record.error());
  return reply(std::move(*record));
}

Result<ipc::Reply> VaultServer::random(ByteView body) {
  const auto size_bytes = decode_random(body);
  if (!size_bytes) return tl::unexpected(size_bytes.error());
  if (*size_bytes > ipc::kFrameBodyBytesMax)
    return fail(Reason::kLimitsExceeded, "more random bytes than a message holds");
  auto bytes = vault_.random(*size_bytes);
  if (!bytes) return tl::unexpected(bytes.error());
  ipc::Reply out;
  out.secret = std::move(*bytes);
  return out;
}

Result<ipc::Reply> VaultServer::health(ByteView body) {
  if (!body.empty()) return fail(Reason::kMessageInvalid, "a request for health is empty");
  return reply(encode_health(vault_.health()));
}

}  // namespace coffer::hsm
