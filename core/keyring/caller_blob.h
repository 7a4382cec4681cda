// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/keyring/key_context.h"
#include "core/keyring/wrapped_key.h"

namespace coffer::keyring {

// CallerBlob is what a caller of encryption gets and brings back: its data, or a data key, wrapped
// under a CMK, with what must be known to unwrap it. Everything in it is authenticated by the
// wrapped key, to whose context it belongs. Format: docs/formats/caller-blob.md.
struct CallerBlob {
  Purpose purpose = Purpose::kData;  // Or kEnvelopeData.
  std::uint32_t plain_bytes = 0;     // 1 to 4096; of a data key 16 to 1024.
  WrappedKey wrapped;

  static constexpr std::size_t kPlainBytesMax = 4096;
  static constexpr std::uint32_t kDataKeyBytesMin = 16;
  static constexpr std::uint32_t kDataKeyBytesMax = 1024;
  static constexpr std::size_t kEncodedBytesMax = WrappedKey::kEncodedBytesMax + 8;

  // What the wrapped key is bound to, when its caller gives `application` as its own context.
  static KeyContext context_of(Purpose purpose, std::uint32_t plain_bytes,
                               const std::string& application);
  KeyContext context(const std::string& application) const {
    return context_of(purpose, plain_bytes, application);
  }

  Bytes encode() const;
  // kBlobInvalid: malformed, of an unknown version or purpose, or over a limit.
  static Result<CallerBlob> decode(ByteView bytes);

  friend bool operator==(const CallerBlob&, const CallerBlob&) = default;
};

// A caller's context as KeyContext::application has it: a JSON object of texts, names ascending by
// their bytes, no white space, nothing escaped that need not be; "" when there is none.
//   kInvalidArgs   a name or value is not UTF-8, or has a NUL; a name is empty.
//   kLimitsExceeded   longer than 1024 bytes.
Result<std::string> canonical_context(const std::map<std::string, std::string>& context);

}  // namespace coffer::keyring
