// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "core/audit/audit_log.h"
#include "core/base/id.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/keyring/keyring.h"
#include "hsm/setup_launcher.h"
#include "hsm/setup_protocol.h"

namespace coffer::hsm {

// Where a host keeps what `coffer init` makes, and as whom.
struct HostPlaces {
  std::string prefix;  // "" on a real host; tests lay everything below a folder.
  std::string token_name = "local";
  std::string vault_program = "/usr/lib/coffer/coffer-vault";
  std::string agent_program = "/usr/sbin/cofferd";
  RunAs vault_user{"coffer-vault"};
  RunAs agent_user{"coffer"};

  std::string host_id() const { return prefix + "/etc/coffer/host-id"; }
  // The id of a host that is not set up yet: cofferd begins when it finds the other.
  std::string pending_host_id() const { return host_id() + ".pending"; }
  // The manifest of the backup that is being restored, from the first thing made until the host's
  // id is published: what was begun is then finished, and nothing else is.
  std::string restore_mark() const { return host_id() + ".restore"; }
  std::string config() const { return prefix + "/etc/coffer/vault-" + token_name + ".toml"; }
  std::string agent_config() const { return prefix + "/etc/coffer/cofferd.toml"; }
  std::string credential() const {
    return prefix + "/etc/coffer/credentials/vault-" + token_name + ".pin";
  }
  // Makes the unit read a credential that is not encrypted.
  std::string drop_in() const {
    return prefix + "/etc/systemd/system/coffer-vault@" + token_name + ".service.d/plain-pin.conf";
  }
  std::string vault_state() const { return prefix + "/var/lib/coffer/vault/" + token_name; }
  std::string staging() const { return vault_state() + ".new"; }
  // Of the vault's user, beside the staging folder and not in it: a rerun must find it.
  std::string pin_marks() const { return vault_state() + ".pin"; }
  std::string agent_state() const { return prefix + "/var/lib/coffer/agent"; }
};

// Reads a file that holds a host's id.   kNoSuchFile; kConfigInvalid: it holds something else.
Result<HostId> read_host_id(const std::string& path);

// HostSetup is what `coffer init` does, step by step. Each step leaves the old state or the new
// one, and how_far() tells from the files alone which were done, so that a run that was cut off at
// any instant is finished, or begun anew, by the next. As root, with one thread.
//
//   1  the host's id is drawn, into host-id.pending
//   2  in a staging folder, as the vault's user: token, keys, configuration    (begun anew)
//   3  PIN as a credential                                                      (written anew)
//   4  the staging folder is renamed to the vault's state: the token is there
//   5  /etc/coffer/vault-TOKEN.toml, and cofferd.toml where the agent would use another vault
//   6  the first CMK
//   7  host-id.pending becomes host-id: an agent that waits for it begins. Not before, as it takes
//      the journal that step 6 writes to, and lists the keys that it finds at its start.
class HostSetup {
 public:
  enum class Progress : std::uint8_t {
    kNothing,     // Of this token; steps 1 to 3 may have been begun.
    kTokenMade,   // Steps 1 to 4.
    kConfigured,  // Steps 1 to 5; first_key_there() and host_id_there() tell the rest.
  };
  // Where tests stop a run: called after each step with its name.
  using AfterStep = std::function<void(std::string_view step)>;

  explicit HostSetup(HostPlaces places, AfterStep after_step = nullptr);

  Progress how_far() const;

  // Before anything is made: the agent uses this vault, as its first or as standby, or will by
  // step 5. A configuration that is there is the admin's, and is not changed.   kInvalidArgs: it
  // uses another; kConfigInvalid: it does not take its configuration.
  Result<void> require_agent_uses_token() const;
  // The vault that the agent uses, or will.   kConfigInvalid
  Result<std::string> token_of_agent() const;
  // Whether this vault is the standby of the one that the agent uses.   kConfigInvalid
  Result<bool> is_standby() const;
  // The root key of the agent's key records; "": there are none.
  Result<std::string> root_of_keys() const;

  // Reads the host's id, or draws it.   kConfigInvalid: the file holds something else.
  Result<HostId> ensure_host_id();
  bool host_id_there() const;
  // Step 7; nothing where the host had an id before.
  Result<void> publish_host_id();

  // Steps 2 to 4 for a token of SoftHSM's module that is made now. `seed` is empty when the keys
  // are to be generated in the token.
  Result<SetupAnswer> make_softhsm_token(const std::string& module_path, const SecretBytes& pin,
                                         const SecretBytes& seed);
  // The same for a token that is there already; its PIN is the caller's to know. One that the token
  // refused, here or from a vault that served it, is not given to it again by a rerun, and its last
  // try is never used: kHsmPinIncorrect, kHsmPinLocked.
  struct Existing {
    std::string module_path;
    std::string uri;
    std::string softhsm_conf;  // "" unless the module is SoftHSM.
  };
  Result<SetupAnswer> take_token(const Existing& token, const SecretBytes& pin,
                                 const SecretBytes& seed);
  // Whether it has Coffer's keys already; changes nothing.
  Result<SetupAnswer> look_at(const Existing& token, const SecretBytes& pin);

  // Called by make and take before the token counts as made, with the folder that becomes the
  // vault's state: what else is to be in it.
  void before_token_counts(std::function<Result<void>(const std::string& staging)> bring) {
    bring_ = std::move(bring);
  }

  // Step 5, from what step 2 left in the state folder.
  Result<void> configure();

  // What as_agent() hands to its work.
  struct Agent {
    keyring::KeyVault& vault;  // Of this token, in a process started for it.
    keyring::KeyStore& store;
    keyring::Keyring& keyring;
    audit::AuditLog& log;
    HostId host;
  };
  // Runs `work` in a child, as the agent's user, over the store and the journal in `folder`, which
  // it makes where they are not there. `pin` is empty to take it from the credential; an SDF device
  // has none.
  Result<void> as_agent(const std::string& folder, const SecretBytes& pin,
                        std::chrono::seconds time_max,
                        const std::function<Result<void>(const Agent&)>& work);

  // Step 6: alias `default`, made by the vault, recorded in the agent's journal and store. `pin` is
  // empty to take it from the credential, which must then be a plain file.
  Result<void> make_first_key(const SecretBytes& pin);
  Result<bool> first_key_there();
  bool key_store_there() const;  // Of the agent, with or without that key.

  enum class CredentialKind : std::uint8_t { kEncrypted, kPlain };
  // How the PIN was kept by the last make or take, and why not encrypted.
  CredentialKind credential_kind() const noexcept { return credential_kind_; }
  const std::string& credential_note() const noexcept { return credential_note_; }
  // Tests, and hosts where systemd-creds must not be asked.
  void keep_pin_plain() noexcept { plain_wanted_ = true; }

  // The PIN that the credential holds.   kHsmLoginNeeded: it cannot be read.
  Result<SecretBytes> read_pin() const;

 private:
  bool asks_for_pin() const;
  Result<std::string> ask_agent(const std::string& setting) const;
  Result<void> point_agent() const;
  Result<void> begin_staging() const;
  Result<void> take_over_pin_mark() const;  // Of a vault that served the token before.
  Result<SetupRequest> request_for(const Existing& token, const SecretBytes& pin) const;
  Result<void> store_pin(const SecretBytes& pin);
  Result<void> finish_staging() const;
  Result<SetupAnswer> make(const SetupRequest& request, const std::string& softhsm_conf);
  void after(std::string_view step) const;

  const HostPlaces places_;
  const AfterStep after_step_;
  bool plain_wanted_ = false;
  CredentialKind credential_kind_ = CredentialKind::kPlain;
  std::string credential_note_;
  std::function<Result<void>(const std::string&)> bring_;
};

}  // namespace coffer::hsm
