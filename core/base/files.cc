// SPDX-License-Identifier: Apache-2.0
#include "core/base/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>

namespace coffer {
namespace {

constexpr int kWriteSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

struct OpenedFile {
  UniqueFd fd;
  std::size_t size_bytes = 0;
};

Result<OpenedFile> open_regular(const std::string& path, std::size_t size_max) {
  // O_NONBLOCK: a pipe put in the file's place must not hang us; it has no effect on a regular
  // file.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) return fail_errno(errno, "open " + path);
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return fail_errno(errno, "stat " + path);
  if (!S_ISREG(status.st_mode)) return fail(Reason::kInvalidArgs, path + " is not a regular file");
  const auto size_bytes = static_cast<std::size_t>(status.st_size);
  if (size_bytes > size_max) {
    return fail(Reason::kLimitsExceeded,
                path + " has more than " + std::to_string(size_max) + " bytes");
  }
  return OpenedFile{std::move(fd), size_bytes};
}

std::string folder_of(const std::string& path) {
  const auto folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

// Files of /proc and /sys have a size of 0 and content all the same: read to their end.
Result<Bytes> read_unsized(int fd, const std::string& path, std::size_t size_max) {
  Bytes content;
  std::array<std::byte, 4096> piece{};
  for (;;) {
    const ssize_t count = ::read(fd, piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, "read " + path);
    if (count == 0) return content;
    content.insert(content.end(), piece.begin(), piece.begin() + count);
    if (content.size() > size_max) {
      return fail(Reason::kLimitsExceeded,
                  path + " has more than " + std::to_string(size_max) + " bytes");
    }
  }
}

}  // namespace

Result<Bytes> read_file(const std::string& path, std::size_t size_max) {
  const auto file = open_regular(path, size_max);
  if (!file) return tl::unexpected(file.error());
  if (file->size_bytes == 0) return read_unsized(file->fd.get(), path, size_max);
  Bytes content(file->size_bytes);
  if (auto read = read_exactly_at(file->fd.get(), content, 0); !read) {
    return pass(read.error(), "read " + path);
  }
  return content;
}

Result<SecretBytes> read_secret_file(const std::string& path, std::size_t size_max) {
  const auto file = open_regular(path, size_max);
  if (!file) return tl::unexpected(file.error());
  auto content = SecretBytes::zeroed(file->size_bytes);
  if (!content) return content;
  if (auto read = read_exactly_at(file->fd.get(), content->reveal_mutable(), 0); !read) {
    return pass(read.error(), "read " + path);
  }
  return content;
}

Result<void> write_file_durably(const std::string& path, ByteView content, mode_t mode) {
  const std::string temporary = path + ".new";
  ::unlink(temporary.c_str());
  const UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!fd.valid()) return fail_errno(errno, "create " + temporary);
  const auto abandon = [&](const Error& cause) -> Result<void> {
    ::unlink(temporary.c_str());
    return pass(cause, "write " + path);
  };
  // The mode is meant as given, whatever the umask.
  if (::fchmod(fd.get(), mode) != 0) return abandon(fail_errno(errno, "set mode").value());
  if (auto written = write_exactly_at(fd.get(), content, 0); !written) {
    return abandon(written.error());
  }
  if (::fsync(fd.get()) != 0) return abandon(fail_errno(errno, "fsync").value());
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    return abandon(fail_errno(errno, "rename").value());
  }
  return sync_folder(folder_of(path));
}

Result<void> write_secret_file_durably(const std::string& path, const SecretBytes& content,
                                       mode_t mode) {
  return write_file_durably(path, content.reveal(), mode);
}

Result<void> sync_folder(const std::string& folder) {
  const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, "open folder " + folder);
  if (::fsync(fd.get()) != 0) return fail_errno(errno, "fsync folder " + folder);
  return {};
}

Result<void> read_exactly_at(int fd, std::span<std::byte> into, off_t offset_bytes) {
  while (!into.empty()) {
    const ssize_t got = ::pread(fd, into.data(), into.size(), offset_bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "read at " + std::to_string(offset_bytes));
    if (got == 0) return fail(Reason::kIoError, "end of file at " + std::to_string(offset_bytes));
    into = into.subspan(static_cast<std::size_t>(got));
    offset_bytes += got;
  }
  return {};
}

Result<void> write_exactly_at(int fd, ByteView from, off_t offset_bytes) {
  while (!from.empty()) {
    const ssize_t put = ::pwrite(fd, from.data(), from.size(), offset_bytes);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return fail_errno(errno, "write at " + std::to_string(offset_bytes));
    from = from.subspan(static_cast<std::size_t>(put));
    offset_bytes += put;
  }
  return {};
}

Result<UniqueFd> make_memfd(const char* name, std::size_t size_bytes) {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return fail_errno(errno, "make an anonymous file");
  if (::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) != 0) {
    return fail_errno(errno, "size an anonymous file");
  }
  return fd;
}

Result<void> seal_memfd(int fd) {
  if (::fcntl(fd, F_ADD_SEALS, kWriteSeals) != 0)
    return fail_errno(errno, "seal an anonymous file");
  return {};
}

Result<void> require_sealed(int fd) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kWriteSeals) != kWriteSeals) {
    return fail(Reason::kMessageInvalid, "the file handed over is not sealed");
  }
  return {};
}

}  // namespace coffer
