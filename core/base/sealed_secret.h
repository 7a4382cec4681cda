// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/base/unique_fd.h"

namespace coffer {

// A secret on its way to another process: an anonymous file that nobody can change any more, for a
// descriptor that travels beside a message. What it holds is freed with its last descriptor.

// kIoError, kNoMemory
Result<UniqueFd> seal_secret(const SecretBytes& secret);

// The size of what is in `fd`, which somebody else has made. Nothing can change it afterwards.
//   kInvalidArgs   not a sealed anonymous file, empty, or of more than `size_max` bytes.
Result<std::size_t> sealed_secret_bytes(int fd, std::size_t size_max);
// Reads it into locked memory. Errors as above, kIoError, kNoMemory.
Result<SecretBytes> read_sealed_secret(int fd, std::size_t size_max);

}  // namespace coffer
