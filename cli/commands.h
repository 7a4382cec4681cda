// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/command.h"

namespace coffer::cli {

// The commands, one function per file. They need neither root nor a running agent unless they say
// so.
void declare_backup(CLI::App& parent, Invocation& invocation);    // backup.cc: as root
void declare_header(CLI::App& parent, Invocation& invocation);    // header_check.cc
void declare_init(CLI::App& parent, Invocation& invocation);      // init.cc: as root
void declare_selftest(CLI::App& parent, Invocation& invocation);  // selftest.cc

// These need the agent; cli/agent/.
void declare_volume_commands(CLI::App& parent, Invocation& invocation);  // volume_commands.cc
void declare_key(CLI::App& parent, Invocation& invocation);              // key_commands.cc
void declare_audit(CLI::App& parent, Invocation& invocation);            // audit_commands.cc
void declare_job(CLI::App& parent, Invocation& invocation);              // job_commands.cc
void declare_provider(CLI::App& parent, Invocation& invocation);         // job_commands.cc

}  // namespace coffer::cli
