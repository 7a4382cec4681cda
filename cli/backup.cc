// SPDX-License-Identifier: Apache-2.0
// `coffer backup`: what a host needs, beside its recovery shares, to open its volumes with another
// token. As root, while everything runs.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <ostream>

#include "cli/commands.h"
#include "core/base/secret_bytes.h"
#include "hsm/cold_backup.h"

namespace coffer::cli {
namespace {

constexpr int kExitStopped = 99;

struct Options {
  hsm::HostPlaces places;
  std::string folder;
  std::string stop_after;
};

Result<hsm::Backup> back_up(Options& options) {
  const auto token = hsm::HostSetup(options.places).token_of_agent();
  if (!token) return tl::unexpected(token.error());
  options.places.token_name = *token;
  return hsm::make_backup(options.places, options.folder, [&](std::string_view step) {
    if (step == options.stop_after) ::_exit(kExitStopped);
  });
}

int backup(Options& options, Invocation& invocation) {
  const auto report = [&](const Error& error) {
    invocation.err << "coffer: " << error.str() << "\n";
    return reason_info(error.reason()).exit_status;
  };
  if (::geteuid() != 0) return report(Error(Reason::kAccessDenied, "coffer backup runs as root"));
  const auto made = back_up(options);
  if (!made) return report(made.error());
  const auto& manifest = made->manifest;
  invocation.out << "host id          " << manifest.host.str() << "\n"
                 << "root key         " << manifest.root_id << "\n"
                 << "keys             " << manifest.keys << "\n";
  for (const auto& file : manifest.files)
    invocation.out << "copied           " << file.name << ", " << file.size_bytes << " bytes\n";
  invocation.out << "backup           " << options.folder << "\n"
                 << "Keep it away from the recovery shares: with both, and the disks, everything "
                    "opens.\n";
  invocation.err << made->resident.lines("warning: no backup brings back ")
                 << made->damaged.lines("warning: the backup holds a record that does not open: ");
  const bool lacks_device_keys =
      manifest.is_of_device() && manifest.find(hsm::BackupManifest::kSdfKeys) == nullptr;
  if (lacks_device_keys) {
    invocation.err << "warning: the keys are under an SDF device's, and "
                   << options.places.vault_state() << "/" << hsm::BackupManifest::kSdfKeys
                   << " is not there: without that file this backup restores nothing\n";
  }
  return made->damaged.empty() && !lacks_device_keys ? kExitOk : kExitLost;
}

}  // namespace

void declare_backup(CLI::App& parent, Invocation& invocation) {
  const auto options = std::make_shared<Options>();
  auto* command =
      parent.add_subcommand("backup", "Copy key records, registry and host id to a folder (root)");
  command->add_option("folder", options->folder, "Folder to be made; `init --restore` takes it")
      ->required();
  const std::string none;  // An empty group is not shown in the help.
  command->add_option("--prefix", options->places.prefix)->group(none);
  command->add_option("--agent-program", options->places.agent_program)->group(none);
  command->add_option("--vault-user", options->places.vault_user.user)->group(none);
  command->add_option("--agent-user", options->places.agent_user.user)->group(none);
  command->add_option("--stop-after", options->stop_after)->group(none);
  command->callback([options, &invocation] {
    invocation.action = [options, &invocation] { return backup(*options, invocation); };
  });
}

}  // namespace coffer::cli
