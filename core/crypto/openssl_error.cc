// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/openssl_error.h"

#include <openssl/err.h>

#include <array>

namespace coffer::crypto {

tl::unexpected<Error> openssl_failure(Reason reason, std::string_view step) {
  const unsigned long code = ::ERR_peek_error();
  std::string message(step);
  if (code != 0) {
    std::array<char, 256> text{};
    ::ERR_error_string_n(code, text.data(), text.size());
    message += ": ";
    message += text.data();
  }
  ::ERR_clear_error();
  return fail(reason, std::move(message));
}

}  // namespace coffer::crypto
