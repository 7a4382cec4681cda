// SPDX-License-Identifier: Apache-2.0
#include "hsm/vault_client.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/ipc/channel.h"
#include "core/ipc/sockets.h"
#include "hsm/vault_protocol.h"

namespace coffer::hsm {

using keyring::KeyContext;
using keyring::Presented;
using keyring::Purpose;
using keyring::SealedRecord;
using keyring::WrappedKey;

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
  out.connect_timeout = options.call_timeout;
  return out;
}

template <class T>
std::vector<Result<T>> all_fail(std::size_t count, const Error& error) {
  std::vector<Result<T>> results;
  results.reserve(count);
  for (std::size_t i = 0; i < count; ++i) results.emplace_back(tl::unexpected(error));
  return results;
}

// One key of a call: what it takes in a message and in the answer, or why it is not sent at all.
struct Item {
  Bytes encoded;
  std::size_t request_bytes = 0;
  std::size_t answer_bytes = 0;
  std::optional<Error> refused;
};

// A message with several items.
struct Batch {
  std::vector<std::size_t> items;  // Their places in the call, ascending.
};

struct Limits {
  std::size_t head_bytes;
  bool contiguous;  // A message has no gaps.
  std::size_t items_max;
};

// The first of `waiting` that go into one message.
Batch first_batch(std::span<const Item> items, std::span<const std::size_t> waiting,
                  const Limits& limits) {
  Batch batch;
  std::size_t request = limits.head_bytes;
  std::size_t answer = 4;
  for (const std::size_t i : waiting) {
    request += items[i].request_bytes;
    answer += items[i].answer_bytes + kResultOverheadBytes;
    const bool joins =
        batch.items.empty() ||
        (batch.items.size() < limits.items_max && request <= ipc::kFrameBodyBytesMax &&
         answer <= ipc::kFrameBodyBytesMax && (!limits.contiguous || batch.items.back() + 1 == i));
    if (!joins) break;
    batch.items.push_back(i);
  }
  return batch;
}

// Asks for the items, message by message, until none is left or the deadline has passed. `send`
// gives one result per item of its message.
template <class T, class Send>
std::vector<Result<T>> in_messages(std::span<const Item> items, const Limits& limits,
                                   Deadline deadline, const Send& send) {
  std::vector<Result<T>> results;
  std::vector<std::size_t> waiting;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (!items[i].refused) waiting.push_back(i);
    results.emplace_back(tl::unexpected(
        items[i].refused
            ? *items[i].refused
            : Error(Reason::kHsmTimeout, "the time was over before it was asked for")));
  }
  while (!waiting.empty() && !deadline.passed()) {
    const Batch batch = first_batch(items, waiting, limits);
    Result<std::vector<Result<T>>> some = send(batch);
    const bool silent = !some && some.error().reason() == Reason::kHsmTimeout;
    if (!some) some = all_fail<T>(silent ? waiting.size() : batch.items.size(), some.error());
    std::vector<std::size_t> again;
    for (std::size_t k = 0; k < some->size(); ++k) {
      // The vault's time was over before this key's turn: it goes into the next message.
      const bool begun = (*some)[k] || (*some)[k].error().reason() != Reason::kHsmTimeout;
      if (!begun && !silent) again.push_back(waiting[k]);
      results[waiting[k]] = std::move((*some)[k]);
    }
    // Who does not answer one message is not asked again, each time for as long.
    if (silent) break;
    waiting.erase(waiting.begin(),
                  waiting.begin() + static_cast<std::ptrdiff_t>(batch.items.size()));
    waiting.insert(waiting.begin(), again.begin(), again.end());
  }
  return results;
}

void add_items(Bytes& body, std::span<const Item> items, const Batch& batch) {
  for (const auto i : batch.items)
    body.insert(body.end(), items[i].encoded.begin(), items[i].encoded.end());
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
  if (!WrappedKey::decode(presented.blob.encode()))
    item.refused = Error(Reason::kBlobInvalid, "the wrapped key is malformed");
  item.request_bytes = item.encoded.size();
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
  // The vault stops before the caller does, so that what it has done by then is known.
  const auto left = deadline.left();
  const Bytes time = encode_request_time(left - std::min(left / 8, kWayMax));
  std::vector<ByteView> all{time};
  all.insert(all.end(), parts.begin(), parts.end());
  auto reply = client_.call(type, all, {}, deadline);
  if (reply) return std::move(reply->secret);
  if (reply.error().reason() == Reason::kTimedOut)
    return fail(Reason::kHsmTimeout, reply.error().message());
  return tl::unexpected(reply.error());
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
  if (change.kind == keyring::CmkChange::kDescribe) {
    auto good = keyring::require_alias(change.alias);
    if (good) good = keyring::require_description(change.description);
    if (!good) return tl::unexpected(good.error());
  }
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
  std::vector<Item> items;
  for (const auto& key : keys) {
    Item item;
    item.refused = unsendable(key.context);
    if (!item.refused && key.key.size() > kKeyBytesMax)
      item.refused = Error(Reason::kInvalidArgs, "a key to be wrapped has at most 4096 bytes");
    if (!item.refused) item.encoded = encode_plain_head(key.context, key.key.size());
    item.request_bytes = item.encoded.size() + key.key.size();
    item.answer_bytes = key.key.size() + kWrapOverheadBytes;
    items.push_back(std::move(item));
  }
  // A message has at most kMessagePartsMax parts, and a key needs two.
  const Limits limits{record.size() + kHeadBytes, false, (ipc::kMessagePartsMax - 4) / 2};
  return in_messages<WrappedKey>(
      items, limits, deadline, [&](const Batch& batch) -> Result<std::vector<Result<WrappedKey>>> {
        const auto head = encode_keys_head(record, batch.items.size());
        std::vector<ByteView> parts{head};
        for (const auto i : batch.items) {
          parts.emplace_back(items[i].encoded);
          if (!keys[i].key.empty()) parts.push_back(keys[i].key.reveal());
        }
        const auto answer = call(type_of(VaultRequest::kWrap), parts, deadline);
        if (!answer) return tl::unexpected(answer.error());
        return decode_wrapped_results(answer->reveal(), batch.items.size());
      });
}

std::vector<Result<SecretBytes>> VaultClient::unwrap(ByteView record,
                                                     std::span<const Presented> keys,
                                                     Deadline deadline) {
  if (const auto error = too_many(keys.size())) return all_fail<SecretBytes>(keys.size(), *error);
  std::vector<Item> items;
  for (const auto& key : keys) {
    Item item = presented_item(key);
    // Not even asked for.
    if (key.context.purpose == Purpose::kVolumeKey)
      item.refused = Error(Reason::kWrongPurpose, "a volume's key is only ever delivered");
    item.answer_bytes = key.blob.ciphertext.size();
    items.push_back(std::move(item));
  }
  const Limits limits{record.size() + kHeadBytes, false, kKeysPerMessageMax};
  return in_messages<SecretBytes>(
      items, limits, deadline, [&](const Batch& batch) -> Result<std::vector<Result<SecretBytes>>> {
        Bytes body = encode_keys_head(record, batch.items.size());
        add_items(body, items, batch);
        const ByteView part = body;
        const auto answer = call(type_of(VaultRequest::kUnwrap), {&part, 1}, deadline);
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
  if (material.wrapped.size() > kImportWrappedBytesMax) {
    return fail(Reason::kImportRefused, "the material is longer than any that is imported");
  }
  const auto body = encode_import(current, material);
  const ByteView part = body;
  const auto answer = call(type_of(VaultRequest::kImportMaterial), {&part, 1});
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
