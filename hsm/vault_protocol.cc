// SPDX-License-Identifier: Apache-2.0
#include "hsm/vault_protocol.h"

#include <algorithm>
#include <utility>

#include "core/keyring/enum_codec.h"
#include "core/keyring/import_limits.h"

namespace coffer::hsm {

using keyring::CmkRecord;
using keyring::KeyContext;
using keyring::KeyVault;
using keyring::Presented;
using keyring::WrappedKey;

namespace {

constexpr std::size_t kRecordBytesMax = CmkRecord::kEncodedBytesMax + CmkRecord::kSealBytes;
constexpr std::size_t kErrorBytesMax = kResultTextBytesMax + 16;
constexpr std::size_t kTextBytesMax = 1024;
constexpr std::size_t kPublicKeyBytesMax = 1024;
constexpr std::size_t kKindsMax = 64;  // Of keys that a token supports.

Bytes copy(ByteView bytes) {
  return {bytes.begin(), bytes.end()};
}

Bytes read_record(ByteReader& in) {
  return copy(in.bytes(kRecordBytesMax));
}

std::vector<Bytes> read_list(ByteReader& in, std::size_t size_max) {
  std::vector<Bytes> list(in.count(KeyVault::kKeysPerCallMax, 4));
  for (Bytes& one : list) one = copy(in.bytes(size_max));
  return list;
}

template <class Enum>
Enum read_enum(ByteReader& in, std::uint8_t last) {
  const auto value = in.u8();
  if (value < 1 || value > last) in.reject();
  return static_cast<Enum>(value);
}

keyring::Ticket read_ticket(ByteReader& in) {
  keyring::Ticket ticket{};
  const auto bytes = in.raw(ticket.size());
  std::ranges::copy(bytes, ticket.begin());
  return ticket;
}

KeyContext read_context(ByteReader& in) {
  auto context = KeyContext::decode(in.bytes(KeyContext::kEncodedBytesMax));
  if (context) return std::move(*context);
  in.reject();
  return {};
}

std::optional<Presented> read_presented(ByteReader& in) {
  auto blob = WrappedKey::decode(in.bytes(WrappedKey::kEncodedBytesMax));
  auto context = read_context(in);
  if (blob) return Presented{std::move(*blob), std::move(context)};
  in.reject();
  return std::nullopt;
}

std::vector<Presented> read_presented_list(ByteReader& in) {
  std::vector<Presented> keys;
  const auto count = in.count(KeyVault::kKeysPerCallMax, 8);
  keys.reserve(count);
  for (std::size_t i = 0; i < count && in.good(); ++i) {
    if (auto one = read_presented(in)) keys.push_back(std::move(*one));
  }
  return keys;
}

Result<void> finish(const ByteReader& in, std::string_view what) {
  return in.finish(Reason::kMessageInvalid, what);
}

void write_error(ByteWriter& out, const Error& error) {
  out.boolean(false).bytes(
      ipc::encode_error(Error(error.reason(), printable(error.message(), kResultTextBytesMax))));
}

// The error of a result that is none; reads what write_error() wrote behind the boolean.
Error read_error(ByteReader& in) {
  auto error = ipc::decode_error(in.bytes(kErrorBytesMax));
  if (error) return std::move(*error);
  in.reject();
  return {Reason::kMessageInvalid, "an answer holds a damaged error"};
}

template <class T, class ReadValue>
Result<std::vector<Result<T>>> decode_results(ByteView body, std::size_t count,
                                              const ReadValue& read_value) {
  ByteReader in(body);
  std::vector<Result<T>> results;
  if (in.count(KeyVault::kKeysPerCallMax, 1) != count) in.reject();
  results.reserve(count);
  for (std::size_t i = 0; i < count && in.good(); ++i) {
    if (in.boolean())
      results.push_back(read_value(in));
    else
      results.push_back(tl::unexpected(read_error(in)));
  }
  if (const auto end = finish(in, "an answer of the vault"); !end)
    return tl::unexpected(end.error());
  return results;
}

}  // namespace

Bytes encode_request_time(std::chrono::milliseconds time) {
  const auto most = std::min(time, kRequestTimeMax).count();
  ByteWriter out;
  out.u32(static_cast<std::uint32_t>(std::max<std::chrono::milliseconds::rep>(most, 0)));
  return out.take();
}

Result<TimedRequest> decode_request_time(ByteView message) {
  constexpr std::size_t kTimeBytes = 4;
  ByteReader in(message.first(std::min(message.size(), kTimeBytes)));
  const std::chrono::milliseconds time(in.u32());
  if (const auto end = finish(in, "the time for a request"); !end)
    return tl::unexpected(end.error());
  return TimedRequest{std::min(time, kRequestTimeMax), message.subspan(kTimeBytes)};
}

Bytes encode_presented(const Presented& presented) {
  ByteWriter out;
  out.bytes(presented.blob.encode()).bytes(presented.context.encode());
  return out.take();
}

Bytes encode_context(const KeyContext& context) {
  ByteWriter out;
  out.bytes(context.encode());
  return out.take();
}

Bytes encode_plain_head(const KeyContext& context, std::size_t key_bytes) {
  ByteWriter out;
  out.bytes(context.encode()).u32(static_cast<std::uint32_t>(key_bytes));
  return out.take();
}

Bytes encode_parameters(const keyring::CmkParameters& parameters) {
  ByteWriter out;
  out.text(parameters.alias).text(parameters.description);
  out.u8(static_cast<std::uint8_t>(parameters.algorithm));
  out.u8(static_cast<std::uint8_t>(parameters.usage));
  out.u8(parameters.protection ? static_cast<std::uint8_t>(*parameters.protection) : 0);
  out.u8(static_cast<std::uint8_t>(parameters.owner));
  out.u8(static_cast<std::uint8_t>(parameters.origin));
  out.boolean(parameters.id.has_value());
  if (parameters.id) out.raw(parameters.id->bytes());
  return out.take();
}

Bytes encode_change(ByteView record, const keyring::CmkChange& change) {
  ByteWriter out;
  out.bytes(record).u8(static_cast<std::uint8_t>(change.kind)).boolean(change.time.has_value());
  if (change.time) out.u64(usec(*change.time));
  out.u32(change.days).u32(change.version);
  for (const auto& text : {change.alias, change.description}) {
    out.boolean(text.has_value());
    if (text) out.text(*text);
  }
  return out.take();
}

Bytes encode_keys_head(ByteView record, std::size_t count) {
  ByteWriter out;
  out.bytes(record).u32(static_cast<std::uint32_t>(count));
  return out.take();
}

Bytes encode_make_head(ByteView record, const keyring::Ticket& ticket, std::uint32_t first_index,
                       std::size_t count) {
  ByteWriter out;
  out.bytes(record).raw(ticket).u32(first_index).u32(static_cast<std::uint32_t>(count));
  return out.take();
}

Bytes encode_deliver_head(ByteView record, const keyring::Ticket& ticket,
                          std::span<const std::uint32_t> indexes) {
  ByteWriter out;
  out.bytes(record).raw(ticket).u32(static_cast<std::uint32_t>(indexes.size()));
  for (const auto index : indexes) out.u32(index);
  out.u32(static_cast<std::uint32_t>(indexes.size()));  // How many keys follow: as many.
  return out.take();
}

Bytes encode_rewrap_head(ByteView from, ByteView to, std::size_t count) {
  return ByteWriter().bytes(from).bytes(to).u32(static_cast<std::uint32_t>(count)).take();
}

Bytes encode_sign_head(ByteView record, keyring::SignScheme scheme, std::size_t count) {
  ByteWriter out;
  out.bytes(record).u8(static_cast<std::uint8_t>(scheme)).u32(static_cast<std::uint32_t>(count));
  return out.take();
}

Bytes encode_decrypt_head(ByteView record, keyring::DecryptScheme scheme, std::size_t count) {
  ByteWriter out;
  out.bytes(record).u8(static_cast<std::uint8_t>(scheme)).u32(static_cast<std::uint32_t>(count));
  return out.take();
}

Bytes encode_prepare_import(ByteView record, keyring::ImportWrapping wrapping) {
  return ByteWriter().bytes(record).u8(static_cast<std::uint8_t>(wrapping)).take();
}

Bytes encode_import(ByteView record, const keyring::ImportMaterial& material) {
  ByteWriter out;
  out.bytes(record).bytes(material.token).bytes(material.wrapped);
  out.boolean(material.valid_to.has_value());
  if (material.valid_to) out.u64(usec(*material.valid_to));
  return out.take();
}

Result<keyring::CmkParameters> decode_parameters(ByteView body) {
  ByteReader in(body);
  keyring::CmkParameters out;
  out.alias = in.text(kTextBytesMax);
  out.description = in.text(kTextBytesMax * 2);
  out.algorithm = read_enum<keyring::KeyAlgorithm>(in, 8);
  out.usage = read_enum<keyring::KeyUsage>(in, 3);
  if (const auto protection = in.u8(); protection > 3) {
    in.reject();
  } else if (protection != 0) {
    out.protection = static_cast<keyring::Protection>(protection);
  }
  out.owner = read_enum<keyring::KeyOwner>(in, 2);
  out.origin = read_enum<keyring::KeyOrigin>(in, 2);
  if (in.boolean()) {
    const auto id = CmkId::from_bytes(in.raw(16));
    if (id)
      out.id = *id;
    else
      in.reject();
  }
  if (const auto end = finish(in, "a request for a new key"); !end)
    return tl::unexpected(end.error());
  return out;
}

Result<ChangeRequest> decode_change(ByteView body) {
  ByteReader in(body);
  ChangeRequest out;
  out.record = read_record(in);
  out.change.kind = read_enum<keyring::CmkChange::Kind>(in, keyring::CmkChange::kSetValidTo);
  if (in.boolean()) out.change.time = keyring::read_time(in);
  out.change.days = in.u32();
  out.change.version = in.u32();
  if (in.boolean()) out.change.alias = in.text(kTextBytesMax);
  if (in.boolean()) out.change.description = in.text(kTextBytesMax * 2);
  if (const auto end = finish(in, "a request to change a key"); !end)
    return tl::unexpected(end.error());
  return out;
}

Result<WrapRequest> decode_wrap(ByteView body) {
  ByteReader in(body);
  WrapRequest out;
  out.record = read_record(in);
  const auto count = in.count(KeyVault::kKeysPerCallMax, 8);
  out.keys.reserve(count);
  for (std::size_t i = 0; i < count && in.good(); ++i) {
    KeyVault::Plain plain;
    plain.context = read_context(in);
    auto key = SecretBytes::copy_of(in.bytes(kKeyBytesMax));
    if (!key) return tl::unexpected(key.error());
    plain.key = std::move(*key);
    out.keys.push_back(std::move(plain));
  }
  if (const auto end = finish(in, "a request to wrap keys"); !end)
    return tl::unexpected(end.error());
  return out;
}

Result<UnwrapRequest> decode_unwrap(ByteView body) {
  ByteReader in(body);
  UnwrapRequest out;
  out.record = read_record(in);
  out.keys = read_presented_list(in);
  if (const auto end = finish(in, "a request to unwrap keys"); !end)
    return tl::unexpected(end.error());
  return out;
}

Result<MakeDeksRequest> decode_make_deks(ByteView body) {
  ByteReader in(body);
  MakeDeksRequest out;
  out.record = read_record(in);
  out.ticket = read_ticket(in);
  out.first_index = in.u32();
  const auto count = in.count(KeyVault::kKeysPerCallMax, 4);
  out.contexts.reserve(count);
  for (std::size_t i = 0; i < count && in.good(); ++i) out.contexts.push_back(read_context(in));
  if (const auto end = finish(in, "a request to make DEKs"); !end)
    return tl::unexpected(end.error());
  return out;
}

Result<DeliverRequest> decode_deliver(ByteView body) {
  ByteReader in(body);
  DeliverRequest out;
  out.record = read_record(in);
  out.ticket = read_ticket(in);
  const auto count = in.count(KeyVault::kKeysPerCallMax, 4);
  out.indexes.reserve(count);
  for (std::size_t i = 0; i < count; ++i) out.indexes.push_back(in.u32());
  out.keys = read_presented_list(in);
  if (out.keys.size() != out.indexes.size()) in.reject();
  if (const auto end = finish(in, "a request to deliver DEKs"); !end)
    return tl::unexpected(end.error());
  return out;
}

Result<RewrapRequest> decode_rewrap(ByteView body) {
  ByteReader in(body);
  RewrapRequest out;
  out.from = read_record(in);
  out.to = read_record(in);
  if (out.to.empty()) out.to = out.from;
  const auto count = in.count(KeyVault::kKeysPerCallMax, 8);
  out.keys.reserve(count);
  for (std::size_t i = 0; i < count && in.good(); ++i) {
    auto from = read_presented(in);
    auto to = read_context(in);
    if (from) out.keys.push_back({std::move(*from), std::move(to)});
  }
  if (const auto end = finish(in, "a request to wrap keys anew"); !end)
    return tl::unexpected(end.error());
  return out;
}

Result<SignRequest> decode_sign(ByteView body) {
  ByteReader in(body);
  SignRequest out;
  out.record = read_record(in);
  out.scheme = read_enum<keyring::SignScheme>(in, 4);
  out.digests = read_list(in, kDigestBytesMax);
  if (const auto end = finish(in, "a request to sign"); !end) return tl::unexpected(end.error());
  return out;
}

Result<DecryptRequest> decode_decrypt(ByteView body) {
  ByteReader in(body);
  DecryptRequest out;
  out.record = read_record(in);
  out.scheme = read_enum<keyring::DecryptScheme>(in, 4);
  out.ciphertexts = read_list(in, kCiphertextBytesMax);
  if (const auto end = finish(in, "a request to decrypt"); !end) return tl::unexpected(end.error());
  return out;
}

Result<PrepareImportRequest> decode_prepare_import(ByteView body) {
  ByteReader in(body);
  PrepareImportRequest out;
  out.record = read_record(in);
  out.wrapping = read_enum<keyring::ImportWrapping>(in, 6);
  if (const auto end = finish(in, "a request to prepare an import"); !end)
    return tl::unexpected(end.error());
  return out;
}

Result<ImportRequest> decode_import(ByteView body) {
  ByteReader in(body);
  ImportRequest out;
  out.record = read_record(in);
  out.material.token = copy(in.bytes(kImportTokenBytesMax));
  out.material.wrapped = copy(in.bytes(keyring::kImportWrappedBytesMax));
  if (in.boolean()) out.material.valid_to = keyring::read_time(in);
  if (const auto end = finish(in, "a request to import a key"); !end)
    return tl::unexpected(end.error());
  return out;
}

Result<std::uint32_t> decode_random(ByteView body) {
  ByteReader in(body);
  const auto size_bytes = in.u32();
  if (const auto end = finish(in, "a request for random bytes"); !end)
    return tl::unexpected(end.error());
  return size_bytes;
}

Bytes encode_results(std::span<const Result<WrappedKey>> results) {
  ByteWriter out;
  out.u32(static_cast<std::uint32_t>(results.size()));
  for (const auto& result : results) {
    if (result)
      out.boolean(true).bytes(result->encode());
    else
      write_error(out, result.error());
  }
  return out.take();
}

Bytes encode_shared_request(const keyring::SharedDekRequest& request) {
  ByteWriter out;
  out.raw(request.ticket).u32(request.index).u8(request.needed).bytes(request.context.encode());
  out.u32(static_cast<std::uint32_t>(request.records.size()));
  for (const auto& record : request.records) out.bytes(record);
  return out.take();
}

Result<keyring::SharedDekRequest> decode_shared_request(ByteView body) {
  ByteReader in(body);
  keyring::SharedDekRequest out;
  out.ticket = read_ticket(in);
  out.index = in.u32();
  out.needed = in.u8();
  out.context = read_context(in);
  out.records.resize(in.count(keyring::KeyShares::kTotalMax, 4));
  for (auto& record : out.records) record = read_record(in);
  if (const auto end = finish(in, "a request to make a shared DEK"); !end)
    return tl::unexpected(end.error());
  return out;
}

Bytes encode_shared_dek(const keyring::SharedDek& made) {
  ByteWriter out;
  out.bytes(made.context.encode()).u32(static_cast<std::uint32_t>(made.wraps.size()));
  for (const auto& wrap : made.wraps) out.bytes(wrap.encode());
  return out.take();
}

Result<keyring::SharedDek> decode_shared_dek(ByteView body) {
  ByteReader in(body);
  keyring::SharedDek made{.context = read_context(in), .wraps = {}};
  const auto count = in.count(keyring::KeyShares::kTotalMax, 4);
  for (std::size_t i = 0; i < count && in.good(); ++i) {
    auto wrap = WrappedKey::decode(in.bytes(WrappedKey::kEncodedBytesMax));
    if (wrap)
      made.wraps.push_back(std::move(*wrap));
    else
      in.reject();
  }
  if (const auto end = finish(in, "a shared DEK"); !end) return tl::unexpected(end.error());
  return made;
}

Bytes encode_results(std::span<const Result<Bytes>> results) {
  ByteWriter out;
  out.u32(static_cast<std::uint32_t>(results.size()));
  for (const auto& result : results) {
    if (result)
      out.boolean(true).bytes(*result);
    else
      write_error(out, result.error());
  }
  return out.take();
}

Bytes encode_results(std::span<const Result<void>> results) {
  ByteWriter out;
  out.u32(static_cast<std::uint32_t>(results.size()));
  for (const auto& result : results) {
    if (result)
      out.boolean(true);
    else
      write_error(out, result.error());
  }
  return out.take();
}

Result<SecretBytes> encode_results(std::span<const Result<SecretBytes>> results) {
  // The public part of each, and the key behind it; then one copy into locked memory of its size.
  std::vector<Bytes> heads;
  heads.reserve(results.size());
  std::size_t size = 4;
  for (const auto& result : results) {
    ByteWriter head;
    if (result)
      head.boolean(true).u32(static_cast<std::uint32_t>(result->size()));
    else
      write_error(head, result.error());
    size += head.size() + (result ? result->size() : 0);
    heads.push_back(head.take());
  }
  auto out = SecretBytes::zeroed(size);
  if (!out) return out;
  ByteWriter count;
  count.u32(static_cast<std::uint32_t>(results.size()));
  auto at = std::ranges::copy(count.view(), out->reveal_mutable().begin()).out;
  for (std::size_t i = 0; i < results.size(); ++i) {
    at = std::ranges::copy(heads[i], at).out;
    if (results[i]) at = std::ranges::copy(results[i]->reveal(), at).out;
  }
  return out;
}

Bytes encode_import_parameters(const keyring::ImportParameters& parameters) {
  ByteWriter out;
  out.bytes(parameters.record).bytes(parameters.public_key).bytes(parameters.token);
  out.u64(usec(parameters.valid_to));
  return out.take();
}

Bytes encode_health(const keyring::VaultHealth& health) {
  ByteWriter out;
  out.u8(static_cast<std::uint8_t>(health.state));
  out.text(printable(health.detail, kTextBytesMax)).text(printable(health.token_label, 64));
  out.text(printable(health.token_serial, 64)).text(printable(health.root_id, 64));
  out.u8(static_cast<std::uint8_t>(health.kind)).u8(static_cast<std::uint8_t>(health.profile));
  out.u64(static_cast<std::uint64_t>(health.latency.count())).u64(health.failures);
  out.u32(static_cast<std::uint32_t>(health.supports.size()));
  for (const auto& kind : health.supports) {
    out.u8(static_cast<std::uint8_t>(kind.algorithm)).u8(static_cast<std::uint8_t>(kind.usage));
    out.u8(static_cast<std::uint8_t>(kind.protection));
  }
  out.u8(health.maker ? static_cast<std::uint8_t>(*health.maker) : 0);
  return out.take();
}

Result<std::vector<Result<WrappedKey>>> decode_wrapped_results(ByteView body, std::size_t count) {
  return decode_results<WrappedKey>(body, count, [](ByteReader& in) -> Result<WrappedKey> {
    auto blob = WrappedKey::decode(in.bytes(WrappedKey::kEncodedBytesMax));
    if (!blob) in.reject();
    return blob;
  });
}

Result<std::vector<Result<Bytes>>> decode_signatures(ByteView body, std::size_t count) {
  return decode_results<Bytes>(body, count, [](ByteReader& in) -> Result<Bytes> {
    return copy(in.bytes(kSignatureBytesMax));
  });
}

Result<keyring::ImportParameters> decode_import_parameters(ByteView body) {
  ByteReader in(body);
  keyring::ImportParameters out;
  out.record = read_record(in);
  out.public_key = copy(in.bytes(kPublicKeyBytesMax));
  out.token = copy(in.bytes(kImportTokenBytesMax));
  out.valid_to = keyring::read_time(in);
  if (const auto end = finish(in, "parameters of an import"); !end)
    return tl::unexpected(end.error());
  return out;
}

Result<std::vector<Result<void>>> decode_void_results(ByteView body, std::size_t count) {
  return decode_results<void>(body, count, [](ByteReader&) { return Result<void>(); });
}

Result<std::vector<Result<SecretBytes>>> decode_secret_results(ByteView body, std::size_t count) {
  return decode_results<SecretBytes>(
      body, count, [](ByteReader& in) { return SecretBytes::copy_of(in.bytes(kKeyBytesMax)); });
}

Result<keyring::VaultHealth> decode_health(ByteView body) {
  ByteReader in(body);
  keyring::VaultHealth out;
  out.state = read_enum<keyring::VaultState>(in, 6);
  out.detail = in.text(kTextBytesMax);
  out.token_label = in.text(64);
  out.token_serial = in.text(64);
  out.root_id = in.text(64);
  out.kind = read_enum<keyring::TokenKind>(in, 2);
  out.profile = read_enum<keyring::KekProfile>(in, 6);
  const auto latency = in.u64();
  if (latency > std::uint64_t{1} << 62U) in.reject();
  out.latency = std::chrono::microseconds(static_cast<std::int64_t>(latency));
  out.failures = in.u64();
  out.supports.resize(in.count(kKindsMax, 3));
  for (auto& kind : out.supports) {
    kind.algorithm = read_enum<keyring::KeyAlgorithm>(in, 8);
    kind.usage = read_enum<keyring::KeyUsage>(in, 3);
    kind.protection = read_enum<keyring::Protection>(in, 3);
  }
  const std::uint8_t maker = in.u8();
  if (maker > static_cast<std::uint8_t>(keyring::VaultMaker::kDevelopment)) in.reject();
  if (maker != 0) out.maker = static_cast<keyring::VaultMaker>(maker);
  if (const auto end = finish(in, "the vault's health"); !end) return tl::unexpected(end.error());
  return out;
}

}  // namespace coffer::hsm
