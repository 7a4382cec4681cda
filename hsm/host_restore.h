// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "hsm/backup_manifest.h"
#include "hsm/host_setup.h"
#include "hsm/key_drill.h"

namespace coffer::hsm {

// HostRestore brings a cold backup onto a host whose token was just made from the recovery shares:
// what `coffer init --restore` does between the steps of HostSetup. What it makes counts at once or
// not at all, and a run that was cut off is finished by the next one with the same backup.
//
//   after 1  the backup's host id is the one to be published
//   in 2     the vault's floors, where the backup has them
//   as 6     in a folder beside the agent's: registry and key records, and the drill on them; then
//            that folder becomes the agent's. `restored`, its last file, is the backup's manifest.
//            Once that is written the folder is kept: what a drill changes in the records, the
//            vault has been shown, and would refuse the backup's own from then on. `restored.lost`
//            names keys that do not open, one in a line, where they were accepted as lost.
//
// As root, with one thread.
class HostRestore {
 public:
  // kNameTaken: a restore was begun on the host, and is to be finished first.
  static Result<void> require_none(const HostPlaces& places);

  // Errors as check_backup().
  static Result<HostRestore> open(HostPlaces places, std::string folder,
                                  HostSetup::AfterStep after_step = nullptr);

  const BackupManifest& manifest() const noexcept { return manifest_; }

  // Before anything is made: the host has no state that the backup would take the place of.
  //   kNameTaken   it has key records or a registry of its own, and where; or another backup is
  //                being restored.
  //   kWrongHost   it is another host than the backup's.
  Result<void> require_room() const;
  // Of a backup with the keys of an SDF device: they, and the floors, become the vault's state if
  // that is not there. Nothing for others.
  //   kUnsupported   the host's vault is not configured to use such a device.
  //   kNameTaken     the vault has other state; where.
  Result<void> put_device_keys() const;
  // Where the token was there before this restore was begun: its vault was shown all that the
  // backup's was, as one is that lost none of its state.   kNameTaken: it was not, and would take
  // keys that the backup's refuses.
  Result<void> require_floors() const;
  // Marks that this backup is being restored, and puts its host's id where it is published from.
  Result<void> begin() const;
  // For HostSetup::before_token_counts().
  Result<void> put_floors(const std::string& vault_staging) const;

  // All is in place but the id.
  Result<void> end() const;

  // What to do about keys that do not open.
  enum class Lost : std::uint8_t {
    kRefuse,
    kAccept,  // All others are brought back. Each is recorded as lost; its record stays as it is.
  };
  struct Outcome {
    std::optional<DrillReport> report;  // None: an earlier run had done it.
    std::string lost;                   // Lines that name the lost keys; "": there are none.
  };
  // Step 6. `pin` as of HostSetup::as_agent().
  //   kNameTaken       the token has another root key than the backup's.
  //   kRecordInvalid   keys do not open, and are not accepted as lost; names them. The agent's
  //                    state is not in place then.
  Result<Outcome> put_stores(HostSetup& setup, const SecretBytes& pin, Lost lost) const;

 private:
  HostRestore(HostPlaces places, std::string folder, BackupManifest manifest,
              HostSetup::AfterStep after_step)
      : places_(std::move(places)),
        folder_(std::move(folder)),
        manifest_(std::move(manifest)),
        after_step_(std::move(after_step)) {}

  std::string staging() const { return places_.agent_state() + ".restore"; }
  // Whether the stores in `folder` are this backup's, and whole.
  bool holds_stores(const std::string& folder) const;
  Result<void> fill_staging() const;
  Result<DrillReport> drill(HostSetup& setup, const SecretBytes& pin, Lost lost) const;
  Result<void> keep_lost(const HostSetup::Agent& agent, const DrillReport& report) const;
  Result<void> require_root(const std::string& root_id) const;
  void after(std::string_view step) const;

  const HostPlaces places_;
  const std::string folder_;
  const BackupManifest manifest_;
  const HostSetup::AfterStep after_step_;
};

}  // namespace coffer::hsm
