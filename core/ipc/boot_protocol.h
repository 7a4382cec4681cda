// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"

namespace coffer::ipc {

// What coffer-boot-wait asks cofferd on boot.sock, and the answer. docs/formats/ipc.md.
inline constexpr std::uint16_t kTypeBootWait = 1;  // Body: encode_boot_request().
inline constexpr std::size_t kBootLinesMax = 128;
inline constexpr std::size_t kBootTextBytesMax = 300;

struct BootReport {
  struct Line {
    std::string name;
    std::string state;  // "unlocked", "failed", …
    std::string text;

    friend bool operator==(const Line&, const Line&) = default;
  };
  bool finished = false;   // Every volume that opens at boot is open or has failed.
  std::uint32_t open = 0;  // Of `total`.
  std::uint32_t total = 0;
  std::chrono::milliseconds deadline{0};  // The agent's own: what a boot waits for volumes.
  std::vector<Line> lines;  // The first kBootLinesMax, those that are not open before the others.

  friend bool operator==(const BootReport&, const BootReport&) = default;
};

// How long to wait for the end of the boot's unlocking; 0: as long as the agent's configuration
// says. kMessageInvalid: not a request.
Bytes encode_boot_request(std::chrono::milliseconds wait);
Result<std::chrono::milliseconds> decode_boot_request(ByteView body);

// Texts are cut to their limits. kMessageInvalid: not a report.
Bytes encode_boot_report(const BootReport& report);
Result<BootReport> decode_boot_report(ByteView body);

}  // namespace coffer::ipc
