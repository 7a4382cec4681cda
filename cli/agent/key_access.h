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
void declare_key_changes(CLI::App& group, Invocation& invocation);  // key_change_commands.cc
void declare_key_uses(CLI::App& group, Invocation& invocation);     // key_use_commands.cc
void declare_key_signing(CLI::App& group, Invocation& invocation);  // key_sign_commands.cc
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

// A call on `path` that answers one array of bytes.
Result<Bytes> call_for_bytes(AgentBus& bus, const std::string& path, const char* interface,
                             const char* method, const AgentBus::Fill& fill);

// Standard input to its end, of 1 to `size_max` bytes; secrets go straight into locked memory.
//   kInvalidArgs   empty, or more than that.
//   kIoError, kNoMemory
Result<SecretBytes> read_secret_input(std::size_t size_max);
Result<Bytes> read_input(std::size_t size_max);
// The same that may also be base64, with white space around.
Result<Bytes> read_ciphertext_input(std::size_t size_max);

// What stands in `bytes` as base64, with white space around; else `bytes` as they are.
Bytes raw_or_base64(Bytes bytes);

// Writes to standard output past any buffer.   kIoError
Result<void> write_output(ByteView bytes);
// Raw or, for `as_text`, base64 and a line's end.
Result<void> write_output(ByteView bytes, bool as_text);
// The end of a command whose result is bytes that are not secret: raw, base64, or the member `name`
// of the JSON document. The exit status.
int give_bytes(const Result<Bytes>& bytes, const char* name, bool base64,
               const AgentOptions& options, Invocation& invocation);

}  // namespace coffer::cli
