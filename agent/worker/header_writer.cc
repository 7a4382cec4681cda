// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/header_writer.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <vector>

#include "core/base/files.h"
#include "core/crypto/digest.h"

namespace coffer::agent {
namespace {

constexpr std::size_t kBlockBytes = 4096;
constexpr std::uint8_t kPrintVersion = 1;
constexpr std::size_t kBlocksMax = 120;  // Within kHeaderPrintBytesMax.
constexpr std::size_t kDigestBytes = crypto::kSha256Bytes;

using Block = std::array<std::byte, kBlockBytes>;

Result<void> flush(int fd, std::string_view what) {
  if (::fsync(fd) != 0) return fail_errno(errno, std::string("flush ") + std::string(what));
  return {};
}

Result<std::vector<crypto::Sha256Digest>> decode_print(const HeaderPrint& print) {
  ByteReader in(print);
  if (in.u8() != kPrintVersion) in.reject();
  std::vector<crypto::Sha256Digest> blocks(in.count(kBlocksMax, kDigestBytes));
  for (auto& block : blocks) {
    const auto bytes = in.raw(kDigestBytes);
    if (in.good()) std::ranges::copy(bytes, block.begin());
  }
  if (const auto end = in.finish(Reason::kInvalidArgs, "a header's print"); !end)
    return tl::unexpected(end.error());
  return blocks;
}

const crypto::Sha256Digest& digest_of_zeros() {
  static const auto kDigest = crypto::sha256(Block{});
  return kDigest;
}

off_t offset_of(std::size_t block) {
  return static_cast<off_t>(block * kBlockBytes);
}

// Whether the block at `index` is the printed one. A device that ends before has none.
Result<bool> stands_there(int fd, std::size_t index, const crypto::Sha256Digest& digest) {
  alignas(kBlockBytes) Block block;  // As O_DIRECT wants it.
  const auto got = read_exactly_at(fd, block, offset_of(index));
  if (!got) return tl::unexpected(got.error());
  return crypto::sha256(block) == digest;
}

Result<void> reached(const AfterStep& after_step, WriteStep step) {
  return after_step ? after_step(step) : Result<void>{};
}

// Writes one copy and flushes it.
Result<void> write_copy(int fd, ByteView header, WriteStep which, const AfterStep& after_step) {
  const auto copy_bytes = header.size() / 2;
  const bool first = which == WriteStep::kFirstCopy;
  const std::size_t offset = first ? 0 : copy_bytes;
  const std::string name = first ? "first header copy" : "second header copy";
  const auto copy = header.subspan(offset, copy_bytes);
  if (const auto written = write_exactly_at(fd, copy, static_cast<off_t>(offset)); !written)
    return pass(written.error(), "write the " + name);
  if (const auto flushed = flush(fd, name); !flushed) return flushed;
  return reached(after_step, which);
}

}  // namespace

Result<HeaderPrint> print_header(ByteView header) {
  const auto count = header.size() / kBlockBytes;
  if (header.size() % kBlockBytes != 0 || count == 0 || count > kBlocksMax)
    return fail(Reason::kInvalidArgs, "a header of that length has no print");
  ByteWriter out;
  out.u8(kPrintVersion).u32(static_cast<std::uint32_t>(count));
  for (std::size_t i = 0; i < count; ++i)
    out.raw(crypto::sha256(header.subspan(i * kBlockBytes, kBlockBytes)));
  return out.take();
}

Result<void> clear_area(int fd, std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  const std::array<std::uint64_t, 2> range{offset_bytes, length_bytes};
  if (::ioctl(fd, BLKZEROOUT, range.data()) != 0) {
    // A regular file, or a driver without it.
    const Bytes zeros(std::size_t{1} << 20U);
    for (std::uint64_t at = 0; at < length_bytes; at += zeros.size()) {
      const auto part = std::min<std::uint64_t>(zeros.size(), length_bytes - at);
      const auto written =
          write_exactly_at(fd, ByteView(zeros).first(static_cast<std::size_t>(part)),
                           static_cast<off_t>(offset_bytes + at));
      if (!written) return written;
    }
  }
  return flush(fd, "the cleared area");
}

Result<void> write_new_header(int fd, const NewHeader& what, const AfterStep& after_step) {
  if (const auto cleared = clear_area(fd, 0, what.area_bytes); !cleared)
    return pass(cleared.error(), "clear the header's place");
  if (const auto go_on = reached(after_step, WriteStep::kCleared); !go_on) return go_on;
  // A device is a LUKS2 volume to everybody from its first copy on, so that comes last.
  for (const auto step : {WriteStep::kSecondCopy, WriteStep::kFirstCopy})
    if (const auto written = write_copy(fd, what.header, step, after_step); !written)
      return written;
  return {};
}

Result<void> rewrite_header(int fd, ByteView header, luks2::Copies before,
                            const AfterStep& after_step) {
  const bool second_is_bad = before == luks2::Copies::kSecondaryBad;
  const auto first = second_is_bad ? WriteStep::kSecondCopy : WriteStep::kFirstCopy;
  const auto last = second_is_bad ? WriteStep::kFirstCopy : WriteStep::kSecondCopy;
  for (const auto step : {first, last})
    if (const auto written = write_copy(fd, header, step, after_step); !written) return written;
  return {};
}

Result<HeaderPresence> find_printed(int fd, const HeaderPrint& print) {
  const auto blocks = decode_print(print);
  if (!blocks) return tl::unexpected(blocks.error());
  std::size_t expected = 0;
  std::size_t found = 0;
  bool others = false;
  for (std::size_t i = 0; i < blocks->size(); ++i) {
    const auto there = stands_there(fd, i, (*blocks)[i]);
    if (!there) return tl::unexpected(there.error());
    const bool zeros = (*blocks)[i] == digest_of_zeros();
    if (!zeros) ++expected;
    if (!zeros && *there) ++found;
    if (!*there) others = true;
  }
  if (found == 0) return HeaderPresence::kNone;
  return found == expected && !others ? HeaderPresence::kWhole : HeaderPresence::kPartial;
}

Result<void> wipe_printed(int fd, const HeaderPrint& print) {
  const auto blocks = decode_print(print);
  if (!blocks) return tl::unexpected(blocks.error());
  for (std::size_t i = 0; i < blocks->size(); ++i) {
    if ((*blocks)[i] == digest_of_zeros()) continue;
    const auto there = stands_there(fd, i, (*blocks)[i]);
    if (!there) return tl::unexpected(there.error());
    if (!*there) continue;
    if (const auto wiped = write_exactly_at(fd, Block{}, offset_of(i)); !wiped) return wiped;
  }
  return flush(fd, "the wiped header");
}

}  // namespace coffer::agent
