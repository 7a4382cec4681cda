// SPDX-License-Identifier: Apache-2.0
#include "cli/selftest/vector_file.h"

#include <lzma.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <charconv>

#include "core/base/files.h"
#include "core/crypto/digest.h"

namespace coffer::cli {
namespace {

constexpr std::size_t kFileBytesMax = std::size_t{64} << 20;
constexpr std::size_t kTarBlock = 512;

}  // namespace

Result<boost::json::value> read_json_file(const std::filesystem::path& path) {
  const auto bytes = read_file(path.string(), kFileBytesMax);
  if (!bytes) return tl::unexpected(bytes.error());
  boost::json::error_code error;
  boost::json::value value = boost::json::parse(as_text(*bytes), error);
  if (error) return fail(Reason::kInvalidArgs, path.string() + ": " + error.message());
  return value;
}

Result<std::size_t> count_cases(const std::filesystem::path& path) {
  const auto root = read_json_file(path);
  if (!root) return tl::unexpected(root.error());
  const auto count_in = [](const boost::json::value& value, std::string_view name) -> std::size_t {
    const auto* const object = value.if_object();
    const auto* const member = object == nullptr ? nullptr : object->if_contains(name);
    return member != nullptr && member->is_array() ? member->get_array().size() : 0;
  };
  std::size_t cases = count_in(*root, "cases") + count_in(*root, "tests");
  if (count_in(*root, "testGroups") == 0) return cases;
  for (const auto& group : root->as_object().at("testGroups").as_array())
    cases += count_in(group, "tests");
  return cases;
}

Result<Bytes> read_xz_file(const std::filesystem::path& path, std::size_t size_max) {
  const auto packed = read_file(path.string(), kFileBytesMax);
  if (!packed) return tl::unexpected(packed.error());
  constexpr std::string_view kMagic("\xfd\x37zXZ\0", 6);
  if (!as_text(*packed).starts_with(kMagic))
    return fail(Reason::kInvalidArgs, path.string() + ": not an xz file");
  Bytes out(std::min(std::size_t{1} << 20, size_max));
  for (;;) {
    std::uint64_t memory_max = std::uint64_t{256} << 20;
    std::size_t in_at = 0;
    std::size_t out_at = 0;
    const lzma_ret done = ::lzma_stream_buffer_decode(
        &memory_max, 0, nullptr, reinterpret_cast<const std::uint8_t*>(packed->data()), &in_at,
        packed->size(), reinterpret_cast<std::uint8_t*>(out.data()), &out_at, out.size());
    if (done == LZMA_OK) {
      out.resize(out_at);
      return out;
    }
    if (done != LZMA_BUF_ERROR)
      return fail(Reason::kInvalidArgs, path.string() + ": a broken xz file");
    if (out.size() >= size_max) return fail(Reason::kLimitsExceeded, path.string() + ": too large");
    out.resize(std::min(out.size() * 4, size_max));
  }
}

Result<std::vector<ArchiveMember>> read_tar(ByteView archive) {
  constexpr std::size_t kNameBytes = 100;
  constexpr std::size_t kSizeAt = 124;
  constexpr std::size_t kTypeAt = 156;
  std::vector<ArchiveMember> members;
  while (archive.size() >= kTarBlock) {
    const std::string_view head = as_text(archive.first(kTarBlock));
    if (head.front() == '\0') break;
    const std::string_view field = head.substr(0, kNameBytes);
    const char* const digits = head.data() + kSizeAt;
    std::size_t size = 0;
    const auto [end, error] = std::from_chars(digits, digits + 12, size, 8);
    archive = archive.subspan(kTarBlock);
    if (error != std::errc() || size > archive.size()) {
      return fail(Reason::kInvalidArgs, "not a tar archive");
    }
    const bool regular = head[kTypeAt] == '0' || head[kTypeAt] == '\0';
    if (regular) {
      const ByteView content = archive.first(size);
      members.push_back(
          {std::string(field.substr(0, field.find('\0'))), {content.begin(), content.end()}});
    }
    const std::size_t padded = (size + kTarBlock - 1) / kTarBlock * kTarBlock;
    archive = archive.subspan(std::min(padded, archive.size()));
  }
  return members;
}

Bytes counter_blocks(const std::string& name, std::size_t size_bytes) {
  Bytes out;
  for (std::size_t counter = 0; out.size() < size_bytes; ++counter) {
    const auto block = crypto::sha256(as_bytes(name + ":" + std::to_string(counter)));
    out.insert(out.end(), block.begin(), block.end());
  }
  out.resize(size_bytes);
  return out;
}

}  // namespace coffer::cli
