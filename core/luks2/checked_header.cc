// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/checked_header.h"

#include <algorithm>

#include "core/luks2/activation_rules.h"

namespace coffer::luks2 {
namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::uint8_t kChecked = 1;
constexpr std::uint8_t kRefused = 2;
constexpr std::size_t kLabelBytesMax = 48;
constexpr std::size_t kFieldBytesMax = 200;
constexpr std::size_t kMessageBytesMax = 400;
constexpr std::size_t kHashNameBytesMax = 32;

// Only reasons that the parser and the rules give travel.
constexpr std::array kReasons = {
    Reason::kNotLuks2,      Reason::kHeaderDamaged,  Reason::kHeaderInvalid,
    Reason::kHeaderUnusual, Reason::kDeviceTooSmall, Reason::kProfileMismatch,
    Reason::kTokenMissing,  Reason::kTokenInvalid,
};

// The token of our type, or why there is none to use.
void take_token(const Header& header, CheckedHeader& out) {
  const auto is_ours = [](const TokenEntry& token) { return token.type == kTokenType; };
  const auto found = std::ranges::find_if(header.tokens, is_ours);
  const auto count = std::ranges::count_if(header.tokens, is_ours);
  out.tokens_foreign =
      static_cast<std::uint32_t>(header.tokens.size() - static_cast<std::size_t>(count));
  if (count == 0) {
    out.token_refusal = Refusal{Reason::kTokenMissing, "tokens", "none of type coffer"};
    return;
  }
  out.token_id = found->id;
  const std::string field = "tokens." + std::to_string(found->id);
  if (count > 1) {
    out.token_refusal = Refusal{Reason::kTokenInvalid, "tokens", "more than one of type coffer"};
    return;
  }
  auto token = parse_token(found->json);
  if (token) {
    out.token = std::move(*token);
  } else {
    out.token_refusal = Refusal{Reason::kTokenInvalid, field, token.error().message()};
  }
}

void sort_out_keyslots(const Header& header, CheckedHeader& out) {
  for (const auto& slot : header.keyslots) {
    const bool owned =
        out.token && std::ranges::find(out.token->keyslots, slot.id) != out.token->keyslots.end();
    (owned ? out.keyslots_owned : out.keyslots_foreign).push_back(slot.id);
  }
}

CheckedHeader condense(const Header& header) {
  CheckedHeader out;
  out.uuid = *header.uuid;
  out.label = printable(header.label, kLabelBytesMax);
  out.subsystem = printable(header.subsystem, kLabelBytesMax);
  out.epoch = header.epoch;
  out.copies = header.copies;
  out.json_sha256 = header.json_sha256;
  out.copy_sha256 = header.copy_sha256;
  out.device_bytes = header.device_bytes;
  out.metadata_bytes = header.metadata_bytes;
  out.json_used_bytes = header.json_used_bytes;
  out.json_free_bytes = header.metadata_bytes - kBinaryHeaderBytes - header.json_used_bytes;
  out.reencryption = header.reencryption();
  out.activation = activation_refusal(header);
  if (auto profile = profile_of(header)) {
    if (auto digest = key_digest_of(header, profile->key_bytes)) out.digest = std::move(*digest);
    out.profile = std::move(*profile);
  }
  take_token(header, out);
  sort_out_keyslots(header, out);
  return out;
}

void write(ByteWriter& out, const Refusal& refusal) {
  const auto at = std::ranges::find(kReasons, refusal.reason);
  out.u8(static_cast<std::uint8_t>(at - kReasons.begin()));
  out.text(printable(refusal.field, kFieldBytesMax))
      .text(printable(refusal.message, kMessageBytesMax));
}

std::string read_printable(ByteReader& in, std::size_t size_max) {
  std::string text = in.text(size_max);
  if (text != printable(text, size_max)) in.reject();
  return text;
}

Refusal read_refusal(ByteReader& in) {
  Refusal refusal;
  const std::uint8_t index = in.u8();
  if (index < kReasons.size()) {
    refusal.reason = kReasons[index];
  } else {
    in.reject();
  }
  refusal.field = read_printable(in, kFieldBytesMax);
  refusal.message = read_printable(in, kMessageBytesMax);
  return refusal;
}

void write(ByteWriter& out, const std::optional<Refusal>& refusal) {
  out.boolean(refusal.has_value());
  if (refusal) write(out, *refusal);
}

std::optional<Refusal> read_optional_refusal(ByteReader& in) {
  if (!in.boolean()) return std::nullopt;
  return read_refusal(in);
}

void write(ByteWriter& out, const std::vector<std::uint32_t>& ids) {
  out.u8(static_cast<std::uint8_t>(ids.size()));
  for (const std::uint32_t id : ids) out.u8(static_cast<std::uint8_t>(id));
}

// Ids of one list; those of keyslot lists ascend, those of a token need not.
std::vector<std::uint32_t> read_ids(ByteReader& in) {
  std::vector<std::uint32_t> ids(std::min<std::size_t>(in.u8(), kObjectsMax + 1));
  if (ids.size() > kObjectsMax) in.reject();
  for (auto& id : ids) {
    id = in.u8();
    if (id >= kObjectsMax) in.reject();
  }
  return ids;
}

void write(ByteWriter& out, const std::vector<Bytes>& blobs) {
  out.u8(static_cast<std::uint8_t>(blobs.size()));
  for (const auto& blob : blobs) out.bytes(blob);
}

Bytes read_bytes(ByteReader& in, std::size_t size_max) {
  const ByteView bytes = in.bytes(size_max);
  return {bytes.begin(), bytes.end()};
}

std::vector<Bytes> read_blobs(ByteReader& in, std::size_t count_max, std::size_t size_max) {
  std::vector<Bytes> blobs;
  const std::size_t count = in.u8();
  if (count > count_max) in.reject();
  for (std::size_t i = 0; in.good() && i < count; ++i) blobs.push_back(read_bytes(in, size_max));
  return blobs;
}

void write(ByteWriter& out, const Token& token) {
  out.u64(token.generation).u8(token.threshold).bytes(token.context);
  write(out, token.wraps);
  write(out, token.records);
  write(out, token.keyslots);
}

Token read_token(ByteReader& in) {
  Token token;
  token.generation = in.u64();
  token.threshold = in.u8();
  token.context = read_bytes(in, kTokenContextBytesMax);
  token.wraps = read_blobs(in, kTokenWrapsMax, kTokenWrapBytesMax);
  token.records = read_blobs(in, kTokenRecordsMax, kTokenRecordBytesMax);
  token.keyslots = read_ids(in);
  // The limits that tie fields together are those of the JSON form.
  if (in.good() && !print_token(token)) in.reject();
  return token;
}

void write(ByteWriter& out, const KeyDigest& digest) {
  out.text(digest.hash).u32(digest.iterations).bytes(digest.salt).bytes(digest.digest);
  out.u32(digest.key_bytes);
}

KeyDigest read_digest(ByteReader& in) {
  KeyDigest digest;
  digest.hash = in.text(kHashNameBytesMax);
  digest.iterations = in.u32();
  digest.salt = read_bytes(in, kDigestSaltBytesMax);
  digest.digest = read_bytes(in, kDigestBytesMax);
  digest.key_bytes = in.u32();
  return digest;
}

void write(ByteWriter& out, const CheckedHeader& header) {
  out.raw(header.uuid.bytes()).text(header.label).text(header.subsystem).u64(header.epoch);
  out.u8(static_cast<std::uint8_t>(header.copies)).raw(header.json_sha256).raw(header.copy_sha256);
  out.u64(header.device_bytes).u64(header.metadata_bytes);
  out.u64(header.json_used_bytes).u64(header.json_free_bytes).boolean(header.reencryption);
  out.boolean(header.profile.has_value());
  if (header.profile) out.bytes(encode_profile(*header.profile));
  out.boolean(header.digest.has_value());
  if (header.digest) write(out, *header.digest);
  write(out, header.activation);
  out.boolean(header.token.has_value());
  if (header.token) write(out, *header.token);
  out.u32(header.token_id);
  write(out, header.token_refusal);
  write(out, header.keyslots_owned);
  write(out, header.keyslots_foreign);
  out.u32(header.tokens_foreign);
}

void read_sha256(ByteReader& in, Sha256& out) {
  const ByteView bytes = in.raw(out.size());
  if (bytes.size() == out.size()) std::ranges::copy(bytes, out.begin());
}

// What a checked header cannot be, whatever the bytes say.
bool consistent(const CheckedHeader& header) {
  const bool sizes =
      header.json_used_bytes + header.json_free_bytes + kBinaryHeaderBytes == header.metadata_bytes;
  const bool token = header.token.has_value() != header.token_refusal.has_value();
  const bool profile =
      header.profile.has_value() || (header.activation.has_value() && !header.digest);
  const bool same_uuid = !header.profile || header.profile->uuid == header.uuid;
  const bool activable = header.activation.has_value() || header.digest.has_value();
  return sizes && token && profile && same_uuid && activable && header.token_id < kObjectsMax &&
         header.tokens_foreign <= kObjectsMax;
}

CheckedHeader read_checked(ByteReader& in) {
  CheckedHeader header;
  if (const auto uuid = Uuid::from_bytes(in.raw(16)); uuid) header.uuid = *uuid;
  header.label = read_printable(in, kLabelBytesMax);
  header.subsystem = read_printable(in, kLabelBytesMax);
  header.epoch = in.u64();
  const std::uint8_t copies = in.u8();
  if (copies > static_cast<std::uint8_t>(Copies::kSecondaryBad)) in.reject();
  header.copies = static_cast<Copies>(copies);
  read_sha256(in, header.json_sha256);
  read_sha256(in, header.copy_sha256);
  header.device_bytes = in.u64();
  header.metadata_bytes = in.u64();
  header.json_used_bytes = in.u64();
  header.json_free_bytes = in.u64();
  header.reencryption = in.boolean();
  if (in.boolean()) {
    auto profile = decode_profile(in.bytes(kProfileBytesMax));
    if (profile) {
      header.profile = std::move(*profile);
    } else {
      in.reject();
    }
  }
  if (in.boolean()) header.digest = read_digest(in);
  header.activation = read_optional_refusal(in);
  if (in.boolean()) header.token = read_token(in);
  header.token_id = in.u32();
  header.token_refusal = read_optional_refusal(in);
  header.keyslots_owned = read_ids(in);
  header.keyslots_foreign = read_ids(in);
  header.tokens_foreign = in.u32();
  if (in.good() && !consistent(header)) in.reject();
  return header;
}

}  // namespace

CheckOutcome check_header(ByteView start, std::uint64_t device_bytes) {
  auto examined = examine_header(start, device_bytes);
  if (auto* const refusal = std::get_if<Refusal>(&examined)) return std::move(*refusal);
  const Header& header = std::get<Header>(examined);
  if (!header.uuid) return Refusal{Reason::kHeaderUnusual, "hdr.uuid", "not a UUID in lower case"};
  return condense(header);
}

Result<CheckedHeader> as_result(CheckOutcome outcome) {
  if (auto* const header = std::get_if<CheckedHeader>(&outcome)) return std::move(*header);
  return tl::unexpected(std::get<Refusal>(outcome).error());
}

Bytes encode_outcome(const CheckOutcome& outcome) {
  ByteWriter out;
  out.u8(kVersion);
  if (const auto* const header = std::get_if<CheckedHeader>(&outcome)) {
    out.u8(kChecked);
    write(out, *header);
  } else {
    out.u8(kRefused);
    write(out, std::get<Refusal>(outcome));
  }
  return out.take();
}

Result<CheckOutcome> decode_outcome(ByteView bytes) {
  ByteReader in(bytes);
  if (bytes.size() > kCheckOutcomeBytesMax || in.u8() != kVersion) in.reject();
  CheckOutcome outcome = Refusal{};
  const std::uint8_t kind = in.u8();
  if (kind == kChecked) {
    outcome = read_checked(in);
  } else if (kind == kRefused) {
    outcome = read_refusal(in);
  } else {
    in.reject();
  }
  if (const auto done = in.finish(Reason::kMessageInvalid, "checked header"); !done) {
    return tl::unexpected(done.error());
  }
  return outcome;
}

}  // namespace coffer::luks2
