// SPDX-License-Identifier: Apache-2.0
// `coffer key …` for keys whose material is brought from elsewhere.
#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <ostream>

#include "cli/agent/agent_command.h"
#include "cli/agent/key_access.h"
#include "cli/agent/table.h"
#include "cli/commands.h"
#include "core/base/clock.h"
#include "core/base/files.h"
#include "core/base/sealed_secret.h"
#include "core/keyring/import_limits.h"

namespace coffer::cli {
namespace {

namespace json = boost::json;

constexpr std::size_t kTokenBytesMax = 4096;

struct Import {
  std::string key, wrapping, public_key_file, token_file;
  std::uint32_t days = 0;
};

struct Parameters {
  Bytes public_key;
  Bytes token;
  std::uint64_t valid_to_usec = 0;
};

Result<Parameters> prepare(AgentBus& bus, const Import& own, const AgentOptions& options) {
  const auto path = find_key(bus, own.key);
  if (!path) return tl::unexpected(path.error());
  OptionList list;
  list.text("wrapping", own.wrapping);
  Parameters parameters;
  const auto done = bus.call_raw(
      *path, "Key", "PrepareImport", [&](sd_bus_message* m) { return list.append(m, options); },
      [&](sd_bus_message* answer) {
        int r = read_bytes(answer, parameters.public_key);
        if (r >= 0) r = read_bytes(answer, parameters.token);
        return r < 0 ? r
                     : ::sd_bus_message_read_basic(answer, 't',
                                                   static_cast<void*>(&parameters.valid_to_usec));
      });
  if (!done) return tl::unexpected(done.error());
  if (auto kept = write_file_durably(own.public_key_file, parameters.public_key); !kept)
    return tl::unexpected(kept.error());
  if (auto kept = write_file_durably(own.token_file, parameters.token); !kept)
    return tl::unexpected(kept.error());
  return parameters;
}

int run_prepare(AgentBus& bus, const Import& own, const AgentOptions& options,
                Invocation& invocation) {
  const auto parameters = prepare(bus, own, options);
  if (!parameters) return report_error(parameters.error(), options, invocation);
  if (options.json) {
    return print_json(json::object{{"publicKey", own.public_key_file},
                                   {"token", own.token_file},
                                   {"validToUSec", parameters->valid_to_usec}},
                      invocation);
  }
  invocation.out << "wrap the material to the key in " << own.public_key_file
                 << " and bring it with " << own.token_file << " before "
                 << time_text(parameters->valid_to_usec) << "\n";
  return kExitOk;
}

int import(AgentBus& bus, const Import& own, const AgentOptions& options, Invocation& invocation) {
  const auto path = find_key(bus, own.key);
  if (!path) return report_error(path.error(), options, invocation);
  const auto token = read_file(own.token_file, kTokenBytesMax);
  if (!token) return report_error(token.error(), options, invocation);
  const auto wrapped = read_secret_input(keyring::kImportWrappedBytesMax);
  if (!wrapped) return report_error(wrapped.error(), options, invocation);
  const auto sealed = seal_secret(*wrapped);
  if (!sealed) return report_error(sealed.error(), options, invocation);
  OptionList list;
  if (own.days > 0) {
    const auto until = system_clock().wall() + std::chrono::hours(24) * own.days;
    list.number("valid-to-usec", usec(until));
  }
  const auto done = bus.call(*path, "Key", "ImportMaterial", [&](sd_bus_message* m) {
    const int fd = sealed->get();
    int r = append_bytes(m, *token);
    if (r >= 0) r = ::sd_bus_message_append_basic(m, 'h', &fd);
    return r < 0 ? r : list.append(m, options);
  });
  return report_done(done, "imported; the key is enabled", options, invocation);
}

}  // namespace

void declare_key_imports(CLI::App& group, Invocation& invocation) {
  const auto own = std::make_shared<Import>();
  auto* parameters = add_agent_command(
      group, invocation, "import-parameters", "What material is wrapped to on its way here",
      kChangeCommand, [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        return run_prepare(bus, *own, options, run);
      });
  parameters->add_option("KEY", own->key, "Id or alias")->required();
  parameters->add_option("--public-key", own->public_key_file, "Where the public key goes (DER)")
      ->required();
  parameters->add_option("--token", own->token_file, "Where the import token goes")->required();
  parameters->add_option("--wrapping", own->wrapping,
                         "rsa-oaep-sha256 (unless given), rsa-oaep-sha1, rsa-pkcs1, "
                         "rsa-aes-key-wrap-sha1, rsa-aes-key-wrap-sha256, sm2; of private keys "
                         "rsa-aes-key-wrap-sha256 (unless given), rsa-aes-key-wrap-sha1");

  auto* command = add_agent_command(
      group, invocation, "import", "Import wrapped material from standard input", kChangeCommand,
      [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        return import(bus, *own, options, run);
      });
  command->add_option("KEY", own->key, "Id or alias")->required();
  command->add_option("--token", own->token_file, "The import token")->required();
  command->add_option("--valid-days", own->days, "It expires after so many days; else never")
      ->check(CLI::Range(1, 36500));
}

}  // namespace coffer::cli
