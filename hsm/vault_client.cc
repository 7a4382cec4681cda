// SPDX-License-Identifier: Apache-2.0
#include "hsm/vault_client.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/ipc/channel.h"
#include "core/ipc/sockets.h"
#include "core/keyring/import_limits.h"
#include "hsm/vault_messages.h"
#include "hsm/vault_protocol.h"

namespace coffer::hsm {

using keyring::KeyContext;
using keyring::Presented;
using keyring::Purpose;
using keyring::SealedRecord;
using keyring::WrappedKey;
using namespace vault_messages;  // NOLINT(google-build-using-namespace): written for this file.

namespace {

// What stands before the keys of a message, beside the record: time, lengths, ticket, first index.
constexpr std::size_t kHeadBytes = 36;
// What a message's time leaves for its way and the answer's.
constexpr std::chrono::milliseconds kWayMax{500};

ipc::Client::Options client_options(const VaultClient::Options& options) {
  ipc::Client::Options out;
  out.peer = options.name;
  out.connect =
      options.connect ? options.connect : [path = options.socket_path](Deadline deadline) {
        return ipc::connect_to(path, deadline);
      };
  out.lost = Reason::kHsmAbsent;
  out.secret = true;
  out.callers_receive = true;
  out.connect_timeout = options.call_timeout;
  return out;
}

void add_items(Bytes& body, std::span<const Item> items, const Batch& batch) {
  for (const auto i : batch.items)
    body.insert(body.end(), items[i].encoded.begin(), items[i].encoded.end());
}

// The head and the items of a message, each with its key behind it, in locked memory.
Result<SecretBytes> plain_body(ByteView head, std::span<const Item> items, const Batch& batch,
                               std::span<const keyring::KeyVault::Plain> keys) {
  std::size_t size = head.size();
  for (const auto i : batch.items) size += items[i].request_bytes;
  auto body = SecretBytes::zeroed(size);
  if (!body) return body;
  auto at = std::ranges::copy(head, body->reveal_mutable().begin()).out;
  for (const auto i : batch.items) {
    at = std::ranges::copy(items[i].encoded, at).out;
    at = std::ranges::copy(keys[i].key.reveal(), at).out;
  }
  return body;
}

// A context that is outside its limits has no form to be sent in.
std::optional<Error> unsendable(const KeyContext& context) {
  const auto valid = context.require_valid();
  return valid ? std::nullopt : std::optional<Error>(valid.error());
}

Item presented_item(const Presented& presented) {
  Item item;
  item.refused = unsendable(presented.context);
  if (item.refused) return item;
  item.encoded = encode_presented(presented);
  // It begins with the blob, behind its length.
  ByteReader in(item.encoded);
  if (!WrappedKey::decode(in.bytes(item.encoded.size())))
    item.refused = Error(Reason::kBlobInvalid, "the wrapped key is malformed");
  item.request_bytes = item.encoded.size();
  return item;
}

Item unwrap_item(const Presented& key) {
  Item item = presented_item(key);
  // Not even asked for.
  if (key.context.purpose == Purpose::kVolumeKey)
    item.refused = Error(Reason::kWrongPurpose, "a volume's key is only ever delivered");
  item.answer_bytes = key.blob.ciphertext.size();
  return item;
}

Item plain_item(const keyring::KeyVault::Plain& key) {
  Item item;
  item.refused = unsendable(key.context);
  if (!item.refused && key.key.size() > kKeyBytesMax)
    item.refused = Error(Reason::kInvalidArgs, "a key to be wrapped has at most 4096 bytes");
  if (!item.refused) item.encoded = encode_plain_head(key.context, key.key.size());
  item.request_bytes = item.encoded.size() + key.key.size();
  item.answer_bytes = key.key.size() + kWrapOverheadBytes;
  return item;
}

// Byte strings of at most `size_max`, longer ones being `too_long`, whose results have at most
// `answer_max`.
std::vector<Item> plain_items(std::span<const Bytes> inputs, std::size_t size_max, Reason too_long,
                              std::size_t answer_max) {
  std::vector<Item> items;
  items.reserve(inputs.size());
  for (const auto& input : inputs) {
    Item item;
    if (input.size() > size_max) {
      item.refused = Error(too_long, "an input is longer than any key takes");
    } else {
      item.encoded = ByteWriter().bytes(input).take();
    }
    item.request_bytes = item.encoded.size();
    item.answer_bytes = answer_max;
    items.push_back(std::move(item));
  }
  return items;
}

std::optional<Error> too_many(std::size_t count) {
  if (count <= keyring::KeyVault::kKeysPerCallMax) return std::nullopt;
  return Error(
      Reason::kLimitsExceeded,
      "a call takes at most " + std::to_string(keyring::KeyVault::kKeysPerCallMax) + " keys");
}

// The vault stops before the caller does, so that what it has done by then is known.
Bytes time_for(Deadline deadline) {
  const auto left = deadline.left();
  return encode_request_time(left - std::min(left / 8, kWayMax));
}

Result<SecretBytes> secret_of(Result<ipc::Reply> reply) {
  if (reply) return std::move(reply->secret);
  if (reply.error().reason() == Reason::kTimedOut)
    return fail(Reason::kHsmTimeout, reply.error().message());
  return tl::unexpected(reply.error());
}

}  // namespace

VaultClient::VaultClient(Options options)
    : options_(std::move(options)), client_(client_options(options_)) {}

VaultClient::~VaultClient() = default;

Result<SecretBytes> VaultClient::call(std::uint16_t type, std::span<const ByteView> parts,
                                      Deadline caller) {
  return call_until(type, parts,
                    Deadline(std::min(Deadline::after(options_.call_timeout).at(), caller.at())));
}

Result<SecretBytes> VaultClient::call_until(std::uint16_t type, std::span<const ByteView> parts,
                                            Deadline deadline) {
  const Bytes time = time_for(deadline);
  std::vector<ByteView> all{time};
  all.insert(all.end(), parts.begin(), parts.end());
  return secret_of(client_.call(type, all, {}, deadline));
}

Result<ipc::Client::Sent> VaultClient::send(std::uint16_t type, std::span<const ByteView> parts,
                                            Deadline caller) {
  const Deadline deadline(std::min(Deadline::after(options_.call_timeout).at(), caller.at()));
  const Bytes time = time_for(deadline);
  std::vector<ByteView> all{time};
  all.insert(all.end(), parts.begin(), parts.end());
  return client_.send(type, all, {}, deadline);
}

Result<SecretBytes> VaultClient::answer_of(Result<ipc::Client::Sent> sent) {
  if (!sent) return secret_of(tl::unexpected(sent.error()));
  return secret_of(sent->wait());
}

namespace {

constexpr std::uint16_t type_of(VaultRequest request) {
  return static_cast<std::uint16_t>(request);
}

SealedRecord ordinary(const SecretBytes& body) {
  return {body.reveal().begin(), body.reveal().end()};
}

}  // namespace

Result<SecretBytes> VaultClient::call(std::uint16_t type, std::span<const ByteView> parts) {
  return call(type, parts, Deadline::after(options_.call_timeout));
}

Result<SealedRecord> VaultClient::create_cmk(const keyring::CmkParameters& parameters) {
  // What has no form to be sent in.
  if (auto good = keyring::require_alias(parameters.alias); !good) {
    return tl::unexpected(good.error());
  }
  if (auto good = keyring::require_description(parameters.description); !good) {
    return tl::unexpected(good.error());
  }
  const auto body = encode_parameters(parameters);
  const ByteView part = body;
  const bool makes_pair = !keyring::is_symmetric(parameters.algorithm);
  const auto answer =
      call_until(type_of(VaultRequest::kCreateCmk), {&part, 1},
                 Deadline::after(makes_pair ? options_.pair_timeout : options_.call_timeout));
  if (!answer) return tl::unexpected(answer.error());
  return ordinary(*answer);
}

Result<SealedRecord> VaultClient::change_cmk(ByteView current, const keyring::CmkChange& change) {
  if (auto good = keyring::require_names(change); !good) return tl::unexpected(good.error());
  const auto body = encode_change(current, change);
  const ByteView part = body;
  const auto answer = call(type_of(VaultRequest::kChangeCmk), {&part, 1});
  if (!answer) return tl::unexpected(answer.error());
  return ordinary(*answer);
}

Result<void> VaultClient::present(ByteView record) {
  const auto answer = call(type_of(VaultRequest::kPresent), {&record, 1});
  if (!answer) return tl::unexpected(answer.error());
  return {};
}

std::vector<Result<WrappedKey>> VaultClient::wrap(ByteView record, std::span<const Plain> keys,
                                                  Deadline deadline) {
  if (const auto error = too_many(keys.size())) return all_fail<WrappedKey>(keys.size(), *error);
  std::vector<Item> items(keys.size());
  const Limits limits{record.size() + kHeadBytes, false, kKeysAheadMax};
  return in_messages_ahead<WrappedKey>(
      items, limits, deadline, [&](std::size_t i) { return plain_item(keys[i]); },
      [&](const Batch& batch) -> Result<ipc::Client::Sent> {
        const auto head = encode_keys_head(record, batch.items.size());
        const auto body = plain_body(head, items, batch, keys);
        if (!body) return tl::unexpected(body.error());
        const ByteView part = body->reveal();
        return send(type_of(VaultRequest::kWrap), {&part, 1}, deadline);
      },
      [](const Batch& batch,
         Result<ipc::Client::Sent> sent) -> Result<std::vector<Result<WrappedKey>>> {
        const auto answer = answer_of(std::move(sent));
        if (!answer) return tl::unexpected(answer.error());
        return decode_wrapped_results(answer->reveal(), batch.items.size());
      });
}

std::vector<Result<SecretBytes>> VaultClient::unwrap(ByteView record,
                                                     std::span<const Presented> keys,
                                                     Deadline deadline) {
  if (const auto error = too_many(keys.size())) return all_fail<SecretBytes>(keys.size(), *error);
  std::vector<Item> items(keys.size());
  const Limits limits{record.size() + kHeadBytes, false, kKeysAheadMax};
  return in_messages_ahead<SecretBytes>(
      items, limits, deadline, [&](std::size_t i) { return unwrap_item(keys[i]); },
      [&](const Batch& batch) {
        Bytes body = encode_keys_head(record, batch.items.size());
        add_items(body, items, batch);
        const ByteView part = body;
        return send(type_of(VaultRequest::kUnwrap), {&part, 1}, deadline);
      },
      [](const Batch& batch,
         Result<ipc::Client::Sent> sent) -> Result<std::vector<Result<SecretBytes>>> {
        const auto answer = answer_of(std::move(sent));
        if (!answer) return tl::unexpected(answer.error());
        return decode_secret_results(answer->reveal(), batch.items.size());
      });
}

std::vector<Result<WrappedKey>> VaultClient::make_deks(ByteView record,
                                                       std::span<const KeyContext> contexts,
                                                       const keyring::Ticket& ticket,
                                                       std::uint32_t first_index,
                                                       Deadline deadline) {
  if (const auto error = too_many(contexts.size()))
    return all_fail<WrappedKey>(contexts.size(), *error);
  std::vector<Item> items;
  for (const auto& context : contexts) {
    Item item;
    item.refused = unsendable(context);
    if (!item.refused) item.encoded = encode_context(context);
    item.request_bytes = item.encoded.size();
    item.answer_bytes = std::min<std::size_t>(context.key_bytes, kKeyBytesMax) + kWrapOverheadBytes;
    items.push_back(std::move(item));
  }
  // The keys of a message have indexes that follow each other.
  const Limits limits{record.size() + kHeadBytes, true, kKeysPerMessageMax};
  return in_messages<WrappedKey>(
      items, limits, deadline, [&](const Batch& batch) -> Result<std::vector<Result<WrappedKey>>> {
        const auto first = first_index + static_cast<std::uint32_t>(batch.items.front());
        Bytes body = encode_make_head(record, ticket, first, batch.items.size());
        add_items(body, items, batch);
        const ByteView part = body;
        const auto answer = call(type_of(VaultRequest::kMakeDeks), {&part, 1}, deadline);
        if (!answer) return tl::unexpected(answer.error());
        return decode_wrapped_results(answer->reveal(), batch.items.size());
      });
}

Result<keyring::SharedDek> VaultClient::make_shared_dek(const keyring::SharedDekRequest& request,
                                                        Deadline deadline) {
  if (const auto error = unsendable(request.context)) return tl::unexpected(*error);
  const auto body = encode_shared_request(request);
  if (body.size() + kHeadBytes > ipc::kFrameBodyBytesMax) {
    return fail(Reason::kLimitsExceeded, "the records of so many keys do not fit into a message");
  }
  const ByteView part = body;
  const auto answer = call(type_of(VaultRequest::kMakeSharedDek), {&part, 1}, deadline);
  if (!answer) return tl::unexpected(answer.error());
  return decode_shared_dek(answer->reveal());
}

std::vector<Result<void>> VaultClient::deliver(ByteView record, std::span<const Presented> keys,
                                               const keyring::Ticket& ticket,
                                               std::span<const std::uint32_t> indexes,
                                               Deadline deadline) {
  if (const auto error = too_many(keys.size())) return all_fail<void>(keys.size(), *error);
  if (keys.size() != indexes.size())
    return all_fail<void>(keys.size(), Error(Reason::kInvalidArgs, "each key needs an index"));
  std::vector<Item> items;
  for (const auto& key : keys) {
    items.push_back(presented_item(key));
    items.back().request_bytes += sizeof(std::uint32_t);
  }
  const Limits limits{record.size() + kHeadBytes, false, kKeysPerMessageMax};
  return in_messages<void>(
      items, limits, deadline, [&](const Batch& batch) -> Result<std::vector<Result<void>>> {
        std::vector<std::uint32_t> some;
        some.reserve(batch.items.size());
        for (const auto i : batch.items) some.push_back(indexes[i]);
        Bytes body = encode_deliver_head(record, ticket, some);
        add_items(body, items, batch);
        const ByteView part = body;
        const auto answer = call(type_of(VaultRequest::kDeliver), {&part, 1}, deadline);
        if (!answer) return tl::unexpected(answer.error());
        return decode_void_results(answer->reveal(), batch.items.size());
      });
}

std::vector<Result<WrappedKey>> VaultClient::rewrap(ByteView from, ByteView to,
                                                    std::span<const keyring::Rewrapped> keys,
                                                    Deadline deadline) {
  if (const auto error = too_many(keys.size())) return all_fail<WrappedKey>(keys.size(), *error);
  std::vector<Item> items;
  for (const auto& key : keys) {
    Item item = presented_item(key.from);
    if (!item.refused) item.refused = unsendable(key.to);
    if (!item.refused) {
      const Bytes context = encode_context(key.to);
      item.encoded.insert(item.encoded.end(), context.begin(), context.end());
    }
    item.request_bytes = item.encoded.size();
    item.answer_bytes = key.from.blob.ciphertext.size() + kWrapOverheadBytes;
    items.push_back(std::move(item));
  }
  // A key that is rewrapped to itself is sent once.
  const ByteView other = std::ranges::equal(from, to) ? ByteView() : to;
  const Limits limits{from.size() + other.size() + kHeadBytes, false, kKeysPerMessageMax};
  return in_messages<WrappedKey>(
      items, limits, deadline, [&](const Batch& batch) -> Result<std::vector<Result<WrappedKey>>> {
        Bytes body = encode_rewrap_head(from, other, batch.items.size());
        add_items(body, items, batch);
        const ByteView part = body;
        const auto answer = call(type_of(VaultRequest::kRewrap), {&part, 1}, deadline);
        if (!answer) return tl::unexpected(answer.error());
        return decode_wrapped_results(answer->reveal(), batch.items.size());
      });
}

std::vector<Result<Bytes>> VaultClient::sign(ByteView record, keyring::SignScheme scheme,
                                             std::span<const Bytes> digests, Deadline deadline) {
  if (const auto error = too_many(digests.size())) return all_fail<Bytes>(digests.size(), *error);
  const auto items =
      plain_items(digests, kDigestBytesMax, Reason::kInvalidArgs, kSignatureBytesMax);
  const Limits limits{record.size() + kHeadBytes, false, kKeysPerMessageMax};
  return in_messages<Bytes>(
      items, limits, deadline, [&](const Batch& batch) -> Result<std::vector<Result<Bytes>>> {
        Bytes body = encode_sign_head(record, scheme, batch.items.size());
        add_items(body, items, batch);
        const ByteView part = body;
        const auto answer = call(type_of(VaultRequest::kSign), {&part, 1}, deadline);
        if (!answer) return tl::unexpected(answer.error());
        return decode_signatures(answer->reveal(), batch.items.size());
      });
}

std::vector<Result<SecretBytes>> VaultClient::decrypt(ByteView record,
                                                      keyring::DecryptScheme scheme,
                                                      std::span<const Bytes> ciphertexts,
                                                      Deadline deadline) {
  if (const auto error = too_many(ciphertexts.size()))
    return all_fail<SecretBytes>(ciphertexts.size(), *error);
  const auto items =
      plain_items(ciphertexts, kCiphertextBytesMax, Reason::kBlobInvalid, kCiphertextBytesMax);
  const Limits limits{record.size() + kHeadBytes, false, kKeysPerMessageMax};
  return in_messages<SecretBytes>(
      items, limits, deadline, [&](const Batch& batch) -> Result<std::vector<Result<SecretBytes>>> {
        Bytes body = encode_decrypt_head(record, scheme, batch.items.size());
        add_items(body, items, batch);
        const ByteView part = body;
        const auto answer = call(type_of(VaultRequest::kDecrypt), {&part, 1}, deadline);
        if (!answer) return tl::unexpected(answer.error());
        return decode_secret_results(answer->reveal(), batch.items.size());
      });
}

Result<keyring::ImportParameters> VaultClient::prepare_import(ByteView current,
                                                              keyring::ImportWrapping wrapping) {
  const auto body = encode_prepare_import(current, wrapping);
  const ByteView part = body;
  const auto answer = call_until(type_of(VaultRequest::kPrepareImport), {&part, 1},
                                 Deadline::after(options_.pair_timeout));
  if (!answer) return tl::unexpected(answer.error());
  return decode_import_parameters(answer->reveal());
}

Result<SealedRecord> VaultClient::import_material(ByteView current,
                                                  const keyring::ImportMaterial& material) {
  if (material.token.size() > kImportTokenBytesMax) {
    return fail(Reason::kImportTokenExpired, "the token of an import is longer than any is");
  }
  if (material.wrapped.size() > keyring::kImportWrappedBytesMax) {
    return fail(Reason::kImportRefused, "the material is longer than any that is imported");
  }
  const auto body = encode_import(current, material);
  const ByteView part = body;
  // A private key's numbers are checked.
  const auto answer = call_until(type_of(VaultRequest::kImportMaterial), {&part, 1},
                                 Deadline::after(options_.pair_timeout));
  if (!answer) return tl::unexpected(answer.error());
  return ordinary(*answer);
}

Result<SecretBytes> VaultClient::random(std::size_t size_bytes) {
  if (size_bytes == 0 || size_bytes > ipc::kFrameBodyBytesMax)
    return fail(Reason::kInvalidArgs, "too few or too many random bytes for one call");
  ByteWriter body;
  body.u32(static_cast<std::uint32_t>(size_bytes));
  const ByteView part = body.view();
  auto answer = call(type_of(VaultRequest::kRandom), {&part, 1});
  if (answer && answer->size() != size_bytes)
    return fail(Reason::kMessageInvalid, "the vault gave another number of random bytes");
  return answer;
}

keyring::VaultHealth VaultClient::health() {
  const auto answer = call(type_of(VaultRequest::kHealth), {});
  auto health = answer ? decode_health(answer->reveal())
                       : Result<keyring::VaultHealth>(tl::unexpected(answer.error()));
  if (health) return std::move(*health);
  keyring::VaultHealth away;
  away.state = health.error().reason() == Reason::kHsmAbsent ? keyring::VaultState::kAbsent
                                                             : keyring::VaultState::kFailed;
  away.detail = health.error().message();
  return away;
}

}  // namespace coffer::hsm
