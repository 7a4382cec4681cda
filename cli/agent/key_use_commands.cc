// SPDX-License-Identifier: Apache-2.0
// `coffer key …` for what keys are used for. Secrets come by standard input and go by standard
// output alone: never by arguments, which everybody sees.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <optional>
#include <ostream>

#include "cli/agent/agent_command.h"
#include "cli/agent/key_access.h"
#include "cli/commands.h"
#include "core/base/files.h"
#include "core/base/sealed_secret.h"
#include "core/base/unique_fd.h"
#include "core/keyring/caller_blob.h"

namespace coffer::cli {
namespace {

using keyring::CallerBlob;

constexpr std::size_t kCiphertextBytesMax = CallerBlob::kEncodedBytesMax;

struct Use {
  std::string key, scheme, to, ciphertext_file;
  std::vector<std::string> context, new_context;
  std::uint32_t bytes = 32;
  bool no_context = false;
  bool base64 = false;
};

// What is secret is not put into a JSON document, which would be ordinary memory.
std::optional<int> refuse_json(const AgentOptions& options, Invocation& invocation) {
  if (!options.json) return std::nullopt;
  invocation.err << "coffer: what is decrypted is not shown as JSON\n";
  return kExitUsage;
}

int give_secret(const Result<SecretBytes>& plain, const AgentOptions& options,
                Invocation& invocation) {
  if (!plain) return report_error(plain.error(), options, invocation);
  const auto written = write_output(plain->reveal());
  return written ? kExitOk : report_error(written.error(), options, invocation);
}

// A call whose answer begins with a secret.
Result<SecretBytes> call_for_secret(AgentBus& bus, const std::string& path, const char* interface,
                                    const char* method, const AgentBus::Fill& fill,
                                    Bytes* behind_it = nullptr) {
  Result<SecretBytes> secret = fail(Reason::kMessageInvalid, "the agent answered no secret");
  const auto done = bus.call_raw(path, interface, method, fill, [&](sd_bus_message* answer) {
    const int r = read_secret(answer, secret);
    return r < 0 || behind_it == nullptr ? r : read_bytes(answer, *behind_it);
  });
  if (!done) return tl::unexpected(done.error());
  return secret;
}

int append_end(sd_bus_message* m, const std::map<std::string, std::string>& context,
               const AgentOptions& options) {
  const int r = append_map(m, context);
  return r < 0 ? r : OptionList().append(m, options);
}

Result<Bytes> encrypt(AgentBus& bus, const Use& own, const AgentOptions& options) {
  const auto context = named_values(own.context);
  if (!context) return tl::unexpected(context.error());
  const auto path = find_key(bus, own.key);
  if (!path) return tl::unexpected(path.error());
  const auto plain = read_secret_input(CallerBlob::kPlainBytesMax);
  if (!plain) return tl::unexpected(plain.error());
  const auto sealed = seal_secret(*plain);
  if (!sealed) return tl::unexpected(sealed.error());
  return call_for_bytes(bus, *path, "Key", "Encrypt", [&](sd_bus_message* m) {
    const int fd = sealed->get();
    const int r = ::sd_bus_message_append_basic(m, 'h', &fd);
    return r < 0 ? r : append_end(m, *context, options);
  });
}

Result<SecretBytes> decrypt(AgentBus& bus, const Use& own, const AgentOptions& options) {
  const auto context = named_values(own.context);
  if (!context) return tl::unexpected(context.error());
  const auto ciphertext = read_ciphertext_input(kCiphertextBytesMax);
  if (!ciphertext) return tl::unexpected(ciphertext.error());
  if (own.key.empty()) {
    return call_for_secret(bus, kAgentRoot, "Keyring", "Decrypt", [&](sd_bus_message* m) {
      const int r = append_bytes(m, *ciphertext);
      return r < 0 ? r : append_end(m, *context, options);
    });
  }
  const auto path = find_key(bus, own.key);
  if (!path) return tl::unexpected(path.error());
  OptionList list;
  list.text("scheme", own.scheme);
  return call_for_secret(bus, *path, "Key", "DecryptAsymmetric", [&](sd_bus_message* m) {
    const int r = append_bytes(m, *ciphertext);
    return r < 0 ? r : list.append(m, options);
  });
}

Result<Bytes> reencrypt(AgentBus& bus, const Use& own, const AgentOptions& options) {
  const auto context = named_values(own.context);
  if (!context) return tl::unexpected(context.error());
  const bool stays = own.new_context.empty() && !own.no_context;
  const auto then = named_values(stays ? own.context : own.new_context);
  if (!then) return tl::unexpected(then.error());
  const auto ciphertext = read_ciphertext_input(kCiphertextBytesMax);
  if (!ciphertext) return tl::unexpected(ciphertext.error());
  return call_for_bytes(bus, kAgentRoot, "Keyring", "ReEncrypt", [&](sd_bus_message* m) {
    int r = append_bytes(m, *ciphertext);
    if (r >= 0) r = append_map(m, *context);
    if (r >= 0) r = ::sd_bus_message_append(m, "s", own.to.c_str());
    return r < 0 ? r : append_end(m, *then, options);
  });
}

// Keeps what nothing else can open again: a file that is there is never replaced. What a power cut
// leaves of it belongs to a key that nobody was given.
Result<void> require_new(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0) return {};
  return fail(Reason::kNameTaken, path + " is there already: it may be the only copy of a key");
}
Result<void> write_new_file(const std::string& path, ByteView content) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid()) return fail_errno(errno, "make " + path);
  auto written = write_exactly_at(file.get(), content, 0);
  if (written && ::fsync(file.get()) != 0) written = fail_errno(errno, "fsync " + path);
  if (!written) {
    // A full disk: the next attempt finds the name free.
    ::unlink(path.c_str());
    return written;
  }
  const auto folder = std::filesystem::path(path).parent_path();
  return sync_folder(folder.empty() ? "." : folder.string());
}

int make_data_key(AgentBus& bus, const Use& own, const AgentOptions& options,
                  Invocation& invocation) {
  const auto context = named_values(own.context);
  if (!context) return report_error(context.error(), options, invocation);
  const auto is_new = require_new(own.ciphertext_file);
  if (!is_new) return report_error(is_new.error(), options, invocation);
  const auto path = find_key(bus, own.key);
  if (!path) return report_error(path.error(), options, invocation);
  Bytes ciphertext;
  const auto plain = call_for_secret(
      bus, *path, "Key", "GenerateDataKey",
      [&](sd_bus_message* m) {
        const int r = ::sd_bus_message_append(m, "u", own.bytes);
        return r < 0 ? r : append_end(m, *context, options);
      },
      &ciphertext);
  if (!plain) return report_error(plain.error(), options, invocation);
  // The plain key is worth nothing to whoever could not keep the other one.
  const auto kept = write_new_file(own.ciphertext_file, ciphertext);
  if (!kept) return report_error(kept.error(), options, invocation);
  return give_secret(plain, options, invocation);
}

using UseOptions = std::shared_ptr<Use>;

CLI::Option* add_context(CLI::App& command, const UseOptions& own) {
  return command.add_option("--context", own->context,
                            "NAME=VALUE, bound to it: the same must be given to open it");
}
void add_base64(CLI::App& command, const UseOptions& own) {
  command.add_flag("--base64", own->base64, "Base64 instead of raw bytes");
}
CLI::Option* add_key(CLI::App& command, const UseOptions& own, bool required = true) {
  return command.add_option("KEY", own->key, "Id or alias")->required(required);
}

void declare_encrypt(CLI::App& group, Invocation& invocation) {
  const auto own = std::make_shared<Use>();
  auto* command = add_agent_command(
      group, invocation, "encrypt", "Encrypt up to 4096 bytes of standard input", kChangeCommand,
      [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        return give_bytes(encrypt(bus, *own, options), "ciphertext", own->base64, options, run);
      });
  add_key(*command, own);
  add_context(*command, own);
  add_base64(*command, own);
}

void declare_decrypt(CLI::App& group, Invocation& invocation) {
  const auto own = std::make_shared<Use>();
  auto* command = add_agent_command(
      group, invocation, "decrypt", "Decrypt standard input, raw or base64, to standard output",
      kChangeCommand, [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        if (const auto refused = refuse_json(options, run)) return *refused;
        return give_secret(decrypt(bus, *own, options), options, run);
      });
  auto* key = add_key(*command, own, false);
  add_context(*command, own)->excludes(key);
  command
      ->add_option("--scheme", own->scheme,
                   "Of what was encrypted to KEY's public key: rsa-oaep-sha256 (unless given), "
                   "rsa-oaep-sha1, rsa-pkcs1, sm2")
      ->needs(key);
}

void declare_reencrypt(CLI::App& group, Invocation& invocation) {
  const auto own = std::make_shared<Use>();
  auto* command = add_agent_command(
      group, invocation, "reencrypt", "Encrypt anew, under the newest version or another key",
      kChangeCommand, [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        return give_bytes(reencrypt(bus, *own, options), "ciphertext", own->base64, options, run);
      });
  command->add_option("--to", own->to, "The other key, id or alias");
  add_context(*command, own);
  auto* other =
      command->add_option("--new-context", own->new_context, "NAME=VALUE; else as --context");
  command->add_flag("--no-context", own->no_context, "None from now on")->excludes(other);
  add_base64(*command, own);
}

void declare_data_key(CLI::App& group, Invocation& invocation) {
  const auto own = std::make_shared<Use>();
  auto* command = add_agent_command(
      group, invocation, "data-key",
      "A random key on standard output, and the same encrypted in a file", kChangeCommand,
      [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        if (const auto refused = refuse_json(options, run)) return *refused;
        return make_data_key(bus, *own, options, run);
      });
  add_key(*command, own);
  command->add_option("--ciphertext", own->ciphertext_file, "Where the encrypted one goes")
      ->required();
  command->add_option("--bytes", own->bytes, "16 to 1024; 32 unless given")
      ->check(CLI::Range(16, 1024));
  add_context(*command, own);
}

void declare_random(CLI::App& group, Invocation& invocation) {
  const auto own = std::make_shared<Use>();
  auto* command = add_agent_command(
      group, invocation, "random", "Random bytes of the token on standard output", kChangeCommand,
      [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        if (const auto refused = refuse_json(options, run)) return *refused;
        const auto bytes =
            call_for_secret(bus, kAgentRoot, "Keyring", "GenerateRandom", [&](sd_bus_message* m) {
              const int r = ::sd_bus_message_append(m, "u", own->bytes);
              return r < 0 ? r : OptionList().append(m, options);
            });
        return give_secret(bytes, options, run);
      });
  command->add_option("--bytes", own->bytes, "1 to 1024; 32 unless given")
      ->check(CLI::Range(1, 1024));
}

}  // namespace

void declare_key_uses(CLI::App& group, Invocation& invocation) {
  declare_encrypt(group, invocation);
  declare_decrypt(group, invocation);
  declare_reencrypt(group, invocation);
  declare_data_key(group, invocation);
  declare_random(group, invocation);
}

}  // namespace coffer::cli
