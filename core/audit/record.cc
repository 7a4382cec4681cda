// SPDX-License-Identifier: Apache-2.0
#include "core/audit/record.h"

#include <array>
#include <ctime>
#include <limits>
#include <utility>

#include "core/base/encoding.h"

namespace coffer::audit {
namespace {

constexpr std::uint16_t kRecordVersion = 1;

constexpr std::array<std::pair<Kind, std::string_view>, 6> kKinds{{{Kind::kIntent, "intent"},
                                                                   {Kind::kResult, "result"},
                                                                   {Kind::kRefused, "refused"},
                                                                   {Kind::kNote, "note"},
                                                                   {Kind::kStart, "start"},
                                                                   {Kind::kStop, "stop"}}};
constexpr std::array<std::pair<Origin, std::string_view>, 6> kOrigins{
    {{Origin::kDbus, "dbus"},
     {Origin::kBoot, "boot"},
     {Origin::kHotplug, "hotplug"},
     {Origin::kCli, "cli"},
     {Origin::kDaemon, "daemon"},
     {Origin::kVault, "vault"}}};

template <class T, std::size_t N>
std::string_view name_in(const std::array<std::pair<T, std::string_view>, N>& table, T value) {
  for (const auto& [known, name] : table) {
    if (known == value) return name;
  }
  return "unknown";
}

template <class T, std::size_t N>
std::optional<T> value_in(const std::array<std::pair<T, std::string_view>, N>& table,
                          std::string_view wanted) {
  for (const auto& [value, name] : table) {
    if (name == wanted) return value;
  }
  return std::nullopt;
}

// An optional value is a boolean and, when that is true, the value.
template <class IdType>
void write_id(ByteWriter& out, const std::optional<IdType>& id) {
  out.boolean(id.has_value());
  if (id) out.raw(id->bytes());
}

template <class IdType>
std::optional<IdType> read_id(ByteReader& in) {
  if (!in.boolean()) return std::nullopt;
  auto id = IdType::from_bytes(in.raw(16));
  if (!id) {
    in.reject();
    return std::nullopt;
  }
  return *id;
}

// Only what write_text() makes is canonical.
void write_text(ByteWriter& out, std::string_view text, std::size_t size_max) {
  out.text(printable(text, size_max));
}
std::string read_text(ByteReader& in, std::size_t size_max) {
  std::string text = in.text(size_max);
  if (printable(text, size_max) != text) in.reject();
  return text;
}

void write_event(ByteWriter& out, const Event& event) {
  out.u8(static_cast<std::uint8_t>(event.kind)).u8(static_cast<std::uint8_t>(event.actor.origin));
  out.boolean(event.actor.uid.has_value());
  if (event.actor.uid) out.u32(*event.actor.uid);
  write_text(out, event.actor.bus_name, kNameBytesMax);
  write_text(out, event.actor.polkit_action, kNameBytesMax);
  write_text(out, event.operation, kOperationBytesMax);
  write_id(out, event.volume);
  write_id(out, event.cmk);
  out.u32(event.cmk_version);
  write_text(out, event.request_id, kNameBytesMax);
  out.u64(event.intent_sequence);
  write_text(out, event.outcome, kNameBytesMax);
  write_text(out, event.text, kTextBytesMax);
}

Event read_event(ByteReader& in) {
  Event event;
  event.kind = static_cast<Kind>(in.u8());
  event.actor.origin = static_cast<Origin>(in.u8());
  if (kind_name(event.kind) == "unknown" || origin_name(event.actor.origin) == "unknown") {
    in.reject();
  }
  if (in.boolean()) event.actor.uid = in.u32();
  event.actor.bus_name = read_text(in, kNameBytesMax);
  event.actor.polkit_action = read_text(in, kNameBytesMax);
  event.operation = read_text(in, kOperationBytesMax);
  event.volume = read_id<VolumeId>(in);
  event.cmk = read_id<CmkId>(in);
  event.cmk_version = in.u32();
  event.request_id = read_text(in, kNameBytesMax);
  event.intent_sequence = in.u64();
  event.outcome = read_text(in, kNameBytesMax);
  event.text = read_text(in, kTextBytesMax);
  return event;
}

std::int64_t read_usec(ByteReader& in) {
  const std::uint64_t usec = in.u64();
  if (usec > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) in.reject();
  return static_cast<std::int64_t>(usec);
}

// JsonLine puts one object on one line. Texts of records are printable, so two escapes are enough.
class JsonLine {
 public:
  JsonLine& text(std::string_view key, std::string_view value) {
    if (value.empty()) return *this;
    open(key) += '"';
    for (const char c : value) {
      if (c == '"' || c == '\\') out_ += '\\';
      out_ += c;
    }
    out_ += '"';
    return *this;
  }
  JsonLine& number(std::string_view key, std::uint64_t value) {
    open(key) += std::to_string(value);
    return *this;
  }
  std::string take() { return std::move(out_) + "}"; }

 private:
  std::string& open(std::string_view key) {
    out_ += out_.empty() ? "{\"" : ",\"";
    out_ += key;
    out_ += "\":";
    return out_;
  }
  std::string out_;
};

// RFC 3339 with microseconds, UTC.
std::string time_text(WallTime wall) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(wall);
  // Not by to_time_t(), whose nanoseconds end in 2262.
  const std::time_t seconds = whole.time_since_epoch().count();
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 64> text{};
  const std::size_t size = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::string fraction = std::to_string((wall - whole).count());
  fraction.insert(0, 6 - std::min<std::size_t>(fraction.size(), 6), '0');
  return std::string(text.data(), size) + "." + fraction + "Z";
}

}  // namespace

std::string_view kind_name(Kind kind) noexcept {
  return name_in(kKinds, kind);
}
std::string_view origin_name(Origin origin) noexcept {
  return name_in(kOrigins, origin);
}
std::optional<Kind> kind_by_name(std::string_view name) noexcept {
  return value_in(kKinds, name);
}
std::optional<Origin> origin_by_name(std::string_view name) noexcept {
  return value_in(kOrigins, name);
}

Bytes encode(const Record& record) {
  ByteWriter out;
  out.u16(kRecordVersion)
      .raw(record.node.bytes())
      .u64(record.sequence)
      .u64(usec(record.wall))
      .u64(static_cast<std::uint64_t>(record.since_boot.count()))
      .raw(record.boot.bytes())
      .raw(record.previous);
  write_event(out, record.event);
  return out.take();
}

crypto::Sha256Digest hash_of(ByteView encoded) {
  return crypto::sha256(encoded);
}

Result<Record> decode(ByteView encoded) {
  if (encoded.size() > kRecordBytesMax) return fail(Reason::kAuditBroken, "record is too long");
  ByteReader in(encoded);
  if (in.u16() != kRecordVersion) return fail(Reason::kAuditBroken, "unknown version of a record");
  const auto node = HostId::from_bytes(in.raw(16));
  if (!node) return fail(Reason::kAuditBroken, "record is cut short");
  Record record{*node, in.u64(), {}, {}, {}, {}, {}, {}};
  record.wall = WallTime(std::chrono::microseconds(read_usec(in)));
  record.since_boot = std::chrono::microseconds(read_usec(in));
  if (const auto boot = Uuid::from_bytes(in.raw(16))) record.boot = *boot;
  const ByteView previous = in.raw(record.previous.size());
  std::copy(previous.begin(), previous.end(), record.previous.begin());
  record.event = read_event(in);
  if (auto done = in.finish(Reason::kAuditBroken, "audit record"); !done) {
    return tl::unexpected(done.error());
  }
  record.hash = hash_of(encoded);
  return record;
}

std::string to_json(const Record& record) {
  const Event& event = record.event;
  JsonLine line;
  line.number("sequence", record.sequence)
      .text("time", time_text(record.wall))
      .number("wall_usec", usec(record.wall))
      .number("boot_usec", static_cast<std::uint64_t>(record.since_boot.count()))
      .text("boot", record.boot.str())
      .text("node", record.node.str())
      .text("kind", kind_name(event.kind))
      .text("origin", origin_name(event.actor.origin));
  if (event.actor.uid) line.number("uid", *event.actor.uid);
  line.text("bus_name", event.actor.bus_name)
      .text("polkit_action", event.actor.polkit_action)
      .text("operation", event.operation);
  if (event.volume) line.text("volume", event.volume->str());
  if (event.cmk) line.text("cmk", event.cmk->str());
  if (event.cmk_version != 0) line.number("cmk_version", event.cmk_version);
  line.text("request_id", event.request_id);
  if (event.intent_sequence != 0) line.number("intent", event.intent_sequence);
  return line.text("outcome", event.outcome)
      .text("text", event.text)
      .text("previous", to_hex(record.previous))
      .text("hash", to_hex(record.hash))
      .take();
}

}  // namespace coffer::audit
