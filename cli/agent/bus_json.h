// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <systemd/sd-bus.h>

#include <boost/json.hpp>

#include "core/base/result.h"

namespace coffer::cli {

// The rest of `message` as JSON: an array of its arguments. Strings, paths and signatures become
// strings, numbers numbers, arrays of bytes base64, other arrays and structures arrays,
// dictionaries with string keys objects, and variants what is in them. So tables and --json print
// from the same value.
//   kMessageInvalid  it cannot be read, or is nested deeper than 32.
Result<boost::json::array> arguments_as_json(sd_bus_message* message);

}  // namespace coffer::cli
