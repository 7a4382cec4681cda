// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"

namespace coffer::cli {

// One entry of luks2/headers.json with the bytes that its device starts with.
struct HeaderCase {
  std::string group;  // "baseline", "json-value", "torn", ...
  std::string name;
  std::string file;
  std::uint64_t device_bytes = 0;
  Bytes start;  // Zeros from its end on, up to device_bytes.
  bool reference_accepts = false;
  std::uint64_t epoch = 0;
  std::string json_sha256;
  bool rewritten_by_tool = false;
  std::vector<std::string> allowed_json_sha256;  // Class torn: the JSON before or after the write.
  std::string profile;                           // "must-refuse", "clone-must-be-noticed" or empty
};

// `folder` is the folder luks2 of the vectors.   As read_json_file() and read_xz_file().
Result<std::vector<HeaderCase>> load_header_cases(const std::filesystem::path& folder);

// The bytes that a parser of everything gets: at most 8 MiB, zeros included.
Bytes device_start(const HeaderCase& header_case);

// One entry of luks2/volumes.json or luks2/inprogress.json.
struct VolumeCase {
  std::string name;
  std::string uuid;  // volumes.json alone
  std::string cipher;
  std::uint32_t sector_bytes = 0;
  std::string passphrase;
  Bytes volume_key;
  Bytes header;  // With its zeros.
  Bytes data;    // Ciphertext; of an in-place encryption part of it still plain.
  std::string plaintext_sha256;
  std::string plaintext_name;
};

Result<std::vector<VolumeCase>> load_volume_cases(const std::filesystem::path& folder);
Result<std::vector<VolumeCase>> load_inprogress_cases(const std::filesystem::path& folder);

}  // namespace coffer::cli
