// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace coffer::hsm {

// `coffer-vault --setup`: reads one SetupRequest from the SEQPACKET socket `fd`, does it, answers,
// and is over. The process's exit status: 0 when it answered, whatever the answer.
int run_setup_process(int fd);

}  // namespace coffer::hsm
