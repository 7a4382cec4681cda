// SPDX-License-Identifier: Apache-2.0
#include "core/base/sealed_secret.h"

#include <sys/stat.h>

#include <cerrno>
#include <string>

#include "core/base/files.h"

namespace coffer {

Result<UniqueFd> seal_secret(const SecretBytes& secret) {
  auto fd = make_memfd("coffer-secret", secret.size());
  if (!fd) return fd;
  if (const auto written = write_exactly_at(fd->get(), secret.reveal(), 0); !written) {
    return tl::unexpected(written.error());
  }
  if (const auto sealed = seal_memfd(fd->get()); !sealed) return tl::unexpected(sealed.error());
  return fd;
}

Result<std::size_t> sealed_secret_bytes(int fd, std::size_t size_max) {
  if (const auto sealed = require_sealed(fd); !sealed) {
    return fail(Reason::kInvalidArgs, "a secret comes in a sealed anonymous file");
  }
  struct stat status{};
  if (::fstat(fd, &status) != 0) return fail_errno(errno, "look at an anonymous file");
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0 || size > size_max) {
    return fail(Reason::kInvalidArgs, "a secret of " + std::to_string(size) +
                                          " bytes is not of 1 to " + std::to_string(size_max));
  }
  return size;
}

Result<SecretBytes> read_sealed_secret(int fd, std::size_t size_max) {
  const auto size = sealed_secret_bytes(fd, size_max);
  if (!size) return tl::unexpected(size.error());
  auto secret = SecretBytes::zeroed(*size);
  if (!secret) return secret;
  if (const auto read = read_exactly_at(fd, secret->reveal_mutable(), 0); !read) {
    return tl::unexpected(read.error());
  }
  return secret;
}

}  // namespace coffer
