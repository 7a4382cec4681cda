// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/result.h"

namespace coffer::agent {

// Config is /etc/coffer/cofferd.toml, with the defaults of a file that is not there. Every key is
// optional; docs/formats/cofferd.toml.md describes each.
struct Config {
  // [paths]
  std::string state_folder = "/var/lib/coffer/agent";
  std::string run_folder = "/run/coffer";
  std::string host_id_file = "/etc/coffer/host-id";

  // [vault]
  std::string vault_token = "local";  // The vault behind <run_folder>/vault-<token>.sock.
  std::string vault_standby;          // One with the same root key; "": there is none.

  // [boot]
  std::chrono::seconds boot_deadline{60};     // After it, coffer-boot-wait lets the boot go on.
  std::chrono::seconds boot_device_wait{15};  // How long a disk that is not there is waited for.

  std::chrono::seconds boot_retry_wait{20};  // And what failed for a reason that may pass at once.

  // [unlock]
  std::chrono::seconds unlock_timeout{30};  // One batch, from its start to its last result.
  std::chrono::seconds settle_timeout{5};   // Further, for udev's links.
  std::chrono::seconds lock_timeout{30};
  std::uint32_t batch_max = 256;  // Volumes in one batch.

  // [jobs]
  std::uint32_t jobs_max = 256;  // Queued and running ones.
  std::uint32_t jobs_per_caller_max = 128;

  // [rewrap]
  std::uint32_t rewraps_per_minute = 600;  // Volumes, where a rewrap does not say otherwise.

  // [retry]: probes of a token that is away.
  std::chrono::seconds retry_min{2};
  std::chrono::seconds retry_max{10};

  friend bool operator==(const Config&, const Config&) = default;
};

inline constexpr std::size_t kConfigBytesMax = std::size_t{64} << 10;

// Parses TOML. kConfigInvalid: not TOML, an unknown table or key, a wrong type, or a value out of
// its range; the message names `source` and the key.
Result<Config> parse_config(std::string_view text, std::string_view source);

// The file at `path`; the defaults when there is none. kConfigInvalid, kAccessDenied, kIoError.
Result<Config> load_config(const std::string& path);

}  // namespace coffer::agent
