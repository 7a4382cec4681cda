// SPDX-License-Identifier: Apache-2.0
#include "hsm/backup_manifest.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <optional>

#include "core/base/bytes.h"
#include "core/base/encoding.h"

namespace coffer::hsm {
namespace {

constexpr std::string_view kFirstLine = "coffer-backup 1";
constexpr std::size_t kRootIdBytesMax = 64;
constexpr std::uint64_t kSecondsMax = 253'402'300'799;  // The end of the year 9999.
constexpr std::uint64_t kNumberMax = std::uint64_t{1} << 62U;
constexpr std::array<std::string_view, 4> kNames{BackupManifest::kFloors, BackupManifest::kKeys,
                                                 BackupManifest::kRegistry,
                                                 BackupManifest::kSdfKeys};

std::optional<std::uint64_t> number(std::string_view text, std::uint64_t most) {
  std::uint64_t value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size() || value > most)
    return std::nullopt;
  return value;
}

bool is_root_id(std::string_view text) {
  return !text.empty() && text.size() <= kRootIdBytesMax && std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-';
  });
}

std::optional<crypto::Sha256Digest> digest(std::string_view text) {
  const auto bytes = from_hex(text);
  crypto::Sha256Digest out{};
  if (!bytes || bytes->size() != out.size()) return std::nullopt;
  std::ranges::copy(*bytes, out.begin());
  return out;
}

// The lines of a manifest, one after another.
class Lines {
 public:
  explicit Lines(std::string_view text) : rest_(text) {}

  // What stands behind `key` and a blank in the next line.
  Result<std::string_view> take(std::string_view key) {
    ++line_;
    const auto end = rest_.find('\n');
    const std::string_view line = rest_.substr(0, end);
    if (end == std::string_view::npos || !line.starts_with(key) ||
        line.substr(key.size(), 1) != " ")
      return wrong("is not \"" + std::string(key) + " …\"");
    rest_.remove_prefix(end + 1);
    return line.substr(key.size() + 1);
  }
  bool next_is(std::string_view key) const { return rest_.starts_with(std::string(key) + " "); }
  std::size_t rest_bytes() const noexcept { return rest_.size(); }
  tl::unexpected<Error> wrong(std::string_view why) const {
    return fail(Reason::kConfigInvalid,
                "manifest of the backup: line " + std::to_string(line_) + " " + std::string(why));
  }

 private:
  std::string_view rest_;
  int line_ = 0;
};

Result<BackupManifest::File> parse_file(const Lines& lines, std::string_view text) {
  const auto first = text.find(' ');
  const auto second = first == std::string_view::npos ? first : text.find(' ', first + 1);
  if (second == std::string_view::npos) return lines.wrong("has not name, size and digest");
  BackupManifest::File file;
  file.name = std::string(text.substr(0, first));
  const auto size = number(text.substr(first + 1, second - first - 1), kNumberMax);
  const auto sum = digest(text.substr(second + 1));
  if (std::ranges::find(kNames, file.name) == kNames.end()) return lines.wrong("names no file");
  if (!size || !sum) return lines.wrong("has no size and digest");
  file.size_bytes = *size;
  file.digest = *sum;
  return file;
}

Result<BackupManifest> parse_lines(Lines& lines) {
  const auto version = lines.take("coffer-backup");
  if (!version) return tl::unexpected(version.error());
  if (*version != "1") return lines.wrong("tells a version that this program does not know");
  const auto host = lines.take("host");
  if (!host) return tl::unexpected(host.error());
  const auto id = HostId::parse(*host);
  if (!id) return lines.wrong("holds no host id");
  BackupManifest out{.host = *id, .root_id = {}};

  const auto root = lines.take("root");
  if (!root) return tl::unexpected(root.error());
  if (!is_root_id(*root)) return lines.wrong("holds no root id");
  out.root_id = std::string(*root);
  const auto made = lines.take("made");
  if (!made) return tl::unexpected(made.error());
  const auto seconds = number(*made, kSecondsMax);
  if (!seconds) return lines.wrong("holds no time");
  out.made = WallTime(std::chrono::seconds(*seconds));
  const auto keys = lines.take("keys");
  if (!keys) return tl::unexpected(keys.error());
  const auto count = number(*keys, kNumberMax);
  if (!count) return lines.wrong("holds no number of keys");
  out.keys = *count;

  while (lines.next_is("file")) {
    const auto text = lines.take("file");  // Cut off, it has no end.
    if (!text) return tl::unexpected(text.error());
    auto file = parse_file(lines, *text);
    if (!file) return tl::unexpected(file.error());
    if (!out.files.empty() && out.files.back().name >= file->name)
      return lines.wrong("is out of order");
    out.files.push_back(std::move(*file));
  }
  return out;
}

}  // namespace

const BackupManifest::File* BackupManifest::find(std::string_view name) const noexcept {
  const auto found = std::ranges::find(files, name, &File::name);
  return found == files.end() ? nullptr : &*found;
}

std::string BackupManifest::to_text() const {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(made).time_since_epoch().count();
  std::string text = std::string(kFirstLine) + "\nhost " + host.str() + "\nroot " + root_id +
                     "\nmade " + std::to_string(seconds) + "\nkeys " + std::to_string(keys) + "\n";
  for (const auto& file : files)
    text += "file " + file.name + " " + std::to_string(file.size_bytes) + " " +
            to_hex(file.digest) + "\n";
  return text + "end " + to_hex(crypto::sha256(as_bytes(text))) + "\n";
}

Result<BackupManifest> BackupManifest::parse(std::string_view text) {
  if (text.size() > kTextBytesMax)
    return fail(Reason::kConfigInvalid, "manifest of the backup: it has more than 4096 bytes");
  Lines lines(text);
  auto out = parse_lines(lines);
  if (!out) return out;
  const std::string_view before = text.substr(0, text.size() - lines.rest_bytes());
  const auto end = lines.take("end");
  if (!end) return tl::unexpected(end.error());
  if (*end != to_hex(crypto::sha256(as_bytes(before))))
    return lines.wrong("is not the digest of those before it");
  // Numbers with zeros in front, or more behind the end.
  if (out->to_text() != text)
    return lines.wrong("is not the end, or a number is written otherwise");
  if (out->find(kKeys) == nullptr) return lines.wrong("comes without a file of keys");
  return out;
}

}  // namespace coffer::hsm
