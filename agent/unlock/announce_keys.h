// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/unlock/unlock_batch.h"

namespace coffer::agent {

// Tells the worker which keys are about to come and for what, under a fresh ticket: a key that
// nobody expects is dropped. One ticket for all; when the worker refuses it as a whole, one for
// each, so that only the volume at fault fails.
//   kProfileMismatch, kDeviceChanged, kBusy, …   as Worker::expect().
void announce_keys(UnlockBatch& batch, Worker& worker);

}  // namespace coffer::agent
