// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/id.h"
#include "core/base/result.h"
#include "core/luks2/digest.h"
#include "core/luks2/header.h"
#include "core/luks2/profile.h"
#include "core/luks2/token.h"

namespace coffer::luks2 {

// CheckedHeader is all that leaves the reader's process about one good header: values within
// limits, nothing that has to be parsed again. Texts of the disk have been made printable.
struct CheckedHeader {
  Uuid uuid;
  std::string label;      // At most 48 bytes, printable UTF-8.
  std::string subsystem;  // The same.
  std::uint64_t epoch = 0;
  Copies copies = Copies::kBoth;
  Sha256 json_sha256{};
  Sha256 copy_sha256{};            // Of the bytes of the copy that was read.
  std::uint64_t device_bytes = 0;  // As the worker gave it.
  std::uint64_t metadata_bytes = 0;
  std::uint64_t json_used_bytes = 0;
  std::uint64_t json_free_bytes = 0;
  bool reencryption = false;

  // What the header says that a profile pins, and what proves its key. None when no profile can
  // hold it; `activation` is then a refusal.
  std::optional<Profile> profile;
  std::optional<KeyDigest> digest;

  // The first of Coffer's rules that it breaks (activation_refusal without a profile: the pinned
  // one is compared with `profile` by the agent). None: may be activated.
  std::optional<Refusal> activation;

  // The token of type coffer, or why there is none to use: kTokenMissing or kTokenInvalid.
  std::optional<Token> token;
  std::uint32_t token_id = 0;
  std::optional<Refusal> token_refusal;

  std::vector<std::uint32_t> keyslots_owned;    // Named by the coffer token.
  std::vector<std::uint32_t> keyslots_foreign;  // All others.
  std::uint32_t tokens_foreign = 0;

  friend bool operator==(const CheckedHeader&, const CheckedHeader&) = default;
};

// One header's outcome: checked, or refused by the format's rules (or for want of a proper UUID).
using CheckOutcome = std::variant<CheckedHeader, Refusal>;

// Parses, judges and condenses: what the reader does with one device's bytes.
CheckOutcome check_header(ByteView start, std::uint64_t device_bytes);

// The same as a Result: a refusal becomes an Error whose message starts with the field.
Result<CheckedHeader> as_result(CheckOutcome outcome);

inline constexpr std::size_t kCheckOutcomeBytesMax = std::size_t{40} << 10;

// The form on the wire between reader and worker, and on to the agent.
// decode_outcome: kMessageInvalid unless `bytes` is exactly what encode_outcome() makes.
Bytes encode_outcome(const CheckOutcome& outcome);
Result<CheckOutcome> decode_outcome(ByteView bytes);

}  // namespace coffer::luks2
