// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <variant>

#include "core/base/result.h"
#include "core/luks2/activation_rules.h"
#include "core/luks2/header.h"
#include "core/luks2/profile.h"

namespace coffer::cli {

using Examined = std::variant<luks2::Header, luks2::Refusal>;

// Examines the header at the start of a file or block device, which is opened for reading alone.
// Reads 128 KiB, and up to 8 MiB where these do not decide.
//   kNoSuchFile, kAccessDenied, kIoError; kInvalidArgs: neither a file nor a block device.
Result<Examined> examine_header_at(const std::string& path);

// A profile in its JSON form.   As read_file() and parse_profile().
Result<luks2::Profile> read_profile_file(const std::string& path);

// What `coffer header check` tells about one header.
struct HeaderVerdict {
  std::optional<luks2::Header> header;       // Well-formed: the format's rules accept it.
  std::optional<luks2::Refusal> refusal;     // Of the format's rules.
  std::optional<luks2::Refusal> activation;  // Of the activation rules or the profile.

  bool allowed() const { return header && !activation; }
};
HeaderVerdict judge(Examined examined, const luks2::Profile* profile);

}  // namespace coffer::cli
