// SPDX-License-Identifier: Apache-2.0
#include "cli/header_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "core/base/files.h"
#include "core/base/unique_fd.h"

namespace coffer::cli {
namespace {

constexpr std::uint64_t kWholeBytes = 2 * luks2::kMetadataBytesMax;

Result<std::uint64_t> size_of(int fd, const std::string& path) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return fail_errno(errno, "stat " + path);
  if (S_ISREG(info.st_mode)) return static_cast<std::uint64_t>(info.st_size);
  if (!S_ISBLK(info.st_mode))
    return fail(Reason::kInvalidArgs, path + ": neither a file nor a block device");
  std::uint64_t size = 0;
  if (::ioctl(fd, BLKGETSIZE64, &size) != 0) return fail_errno(errno, "size of " + path);
  return size;
}

Result<Examined> examine(int fd, std::uint64_t device_bytes, std::uint64_t read_bytes) {
  Bytes start(std::min(device_bytes, read_bytes));
  if (const auto done = read_exactly_at(fd, start, 0); !done) return tl::unexpected(done.error());
  return luks2::examine_header(start, device_bytes);
}

}  // namespace

Result<Examined> examine_header_at(const std::string& path) {
  // Not blocking: a FIFO would wait for a writer before it is seen to be none of the two.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return fail_errno(errno, "open " + path);
  const auto device_bytes = size_of(fd.get(), path);
  if (!device_bytes) return tl::unexpected(device_bytes.error());
  auto examined = examine(fd.get(), *device_bytes, luks2::kReaderBytes);
  const bool decided = !examined || std::holds_alternative<luks2::Header>(*examined);
  if (decided || *device_bytes <= luks2::kReaderBytes) return examined;
  return examine(fd.get(), *device_bytes, kWholeBytes);
}

Result<luks2::Profile> read_profile_file(const std::string& path) {
  const auto text = read_file(path, luks2::kProfileTextBytesMax);
  if (!text) return tl::unexpected(text.error());
  auto profile = luks2::parse_profile(as_text(*text));
  if (!profile) return pass(profile.error(), path);
  return profile;
}

HeaderVerdict judge(Examined examined, const luks2::Profile* profile) {
  HeaderVerdict verdict;
  if (auto* const refusal = std::get_if<luks2::Refusal>(&examined)) {
    verdict.refusal = std::move(*refusal);
    return verdict;
  }
  verdict.header = std::move(std::get<luks2::Header>(examined));
  verdict.activation = luks2::activation_refusal(*verdict.header, profile);
  return verdict;
}

}  // namespace coffer::cli
