// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/result.h"

namespace coffer {

// Copies the database `from`, which others may be using, into a new file `to`: one state of it, as
// of one instant, whatever kind it is.   kStoreUnavailable, kStoreDamaged: of either file; what was
// written of `to` is left. The copy is not yet durable.
Result<void> copy_sqlite_file(const std::string& from, const std::string& to);

}  // namespace coffer
