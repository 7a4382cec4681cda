// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cli/agent/agent_bus.h"
#include "cli/agent/agent_command.h"
#include "core/base/bytes.h"
#include "core/base/secret_bytes.h"

// What the commands on keys have in common.
namespace coffer::cli {

// Declare their commands below `group`, which is "key".
void declare_key_views(CLI::App& group, Invocation& invocation);    // key_view_commands.cc
void declare_key_uses(CLI::App& group, Invocation& invocation);     // key_use_commands.cc
void declare_key_imports(CLI::App& group, Invocation& invocation);  // key_import_commands.cc

// The path of the key with this id or alias. kNoSuchKey
Result<std::string> find_key(AgentBus& bus, const std::string& spec);

// Prints the key at `path` as `coffer key show` does; the exit status.
int show_key(AgentBus& bus, const std::string& path, const AgentOptions& options,
             Invocation& invocation);

// NAME=VALUE, each name once. kInvalidArgs
Result<std::map<std::string, std::string>> named_values(const std::vector<std::string>& texts);
int append_map(sd_bus_message* message, const std::map<std::string, std::string>& map);  // a{ss}
int append_bytes(sd_bus_message* message, ByteView bytes);                               // ay
// Results of a message, one argument each.
int read_bytes(sd_bus_message* message, Bytes& into);
int read_secret(sd_bus_message* message, Result<SecretBytes>& into);  // h

// Standard input to its end, of 1 to `size_max` bytes; secrets go straight into locked memory.
//   kInvalidArgs   empty, or more than that.
//   kIoError, kNoMemory
Result<SecretBytes> read_secret_input(std::size_t size_max);
Result<Bytes> read_input(std::size_t size_max);
// The same that may also be base64, with white space around.
Result<Bytes> read_ciphertext_input(std::size_t size_max);

// Writes to standard output past any buffer.   kIoError
Result<void> write_output(ByteView bytes);
// Raw or, for `as_text`, base64 and a line's end.
Result<void> write_output(ByteView bytes, bool as_text);

}  // namespace coffer::cli
