// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "core/base/result.h"

namespace coffer {

// The part of TOML that Coffer's configuration files use, to be given to the TOML library. That
// library, toml++ 3.3, stops the process on some of what is no TOML
// (docs/decisions/0060-plain-lines-before-toml.md), so that it sees nothing else.
//
// Each line is empty, [table], or key = value, in ASCII, where blanks and tabs may stand around the
// parts and a comment of any bytes behind them; it ends in LF or CRLF.
//   key, table  1 to 64 of a-z0-9_
//   value       "text" of up to 1024 printable characters without quotes and backslashes, or a
//               number: a minus or not, 1 to 18 digits, and a point with 1 to 18 more or not
// A line has up to 2048 bytes without its comment. What keys mean is not looked at, nor whether
// they stand there twice: that is left to the library and the caller.
//
// Returns the same lines, without comments, so that line numbers stay right. The caller has limited
// the size of `text`.   kConfigInvalid: a line is none of these; the message names `source` and it.
Result<std::string> plain_toml(std::string_view text, std::string_view source);

}  // namespace coffer
