// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/base/unique_fd.h"

namespace coffer {

// Reads a whole regular file. kLimitsExceeded: it is larger than `size_max`; kNoSuchFile;
// kAccessDenied; kIoError; kInvalidArgs: not a regular file. Symbolic links are followed.
Result<Bytes> read_file(const std::string& path, std::size_t size_max);

// The same into locked memory; nothing of the content passes through ordinary memory.
Result<SecretBytes> read_secret_file(const std::string& path, std::size_t size_max);

// Replaces `path` so that after a crash at any instant it holds the old content or the new, whole:
// new file beside it, fsync, rename, fsync of the folder.
Result<void> write_file_durably(const std::string& path, ByteView content, mode_t mode = 0600);
Result<void> write_secret_file_durably(const std::string& path, const SecretBytes& content,
                                       mode_t mode = 0600);

// Makes a rename, creation or unlink in `folder` durable.
Result<void> sync_folder(const std::string& folder);

// Reads or writes exactly the bytes given at `offset_bytes`, resuming short transfers. kIoError:
// the system failed, or the end came early.
Result<void> read_exactly_at(int fd, std::span<std::byte> into, off_t offset_bytes);
Result<void> write_exactly_at(int fd, ByteView from, off_t offset_bytes);

// An anonymous file (memfd_create, close-on-exec, sealable). seal() forbids writing and resizing.
Result<UniqueFd> make_memfd(const char* name, std::size_t size_bytes);
Result<void> seal_memfd(int fd);
// kMessageInvalid unless `fd` is a memfd that nobody can write or shrink any more.
Result<void> require_sealed(int fd);

}  // namespace coffer
