// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"

// Vector files come with the source or from the operator: they are read by library code and are no
// input that an attacker chooses.
namespace coffer::cli {

// A JSON file.   As read_file(); kInvalidArgs: not JSON.
Result<boost::json::value> read_json_file(const std::filesystem::path& path);

// How many cases a vector file holds: the entries of all its arrays "cases" and "tests".
Result<std::size_t> count_cases(const std::filesystem::path& path);

// An .xz file, unpacked.   kLimitsExceeded: larger than `size_max` then. kInvalidArgs: not xz.
Result<Bytes> read_xz_file(const std::filesystem::path& path, std::size_t size_max);

// The regular files of a tar archive (ustar), in order.   kInvalidArgs: not one.
struct ArchiveMember {
  std::string name;
  Bytes content;
};
Result<std::vector<ArchiveMember>> read_tar(ByteView archive);

// The SHA-256 blocks of `name` and a counter from 0 that the vectors use as plaintext.
Bytes counter_blocks(const std::string& name, std::size_t size_bytes);

}  // namespace coffer::cli
