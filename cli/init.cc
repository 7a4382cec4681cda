// SPDX-License-Identifier: Apache-2.0
// `coffer init`: the token of this host, its keys and recovery shares, the PIN's credential, and a
// first key. Offline, as root.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <ostream>

#include "cli/agent/provider_wait.h"
#include "cli/commands.h"
#include "cli/host_units.h"
#include "cli/init_shares.h"
#include "core/base/files.h"
#include "core/base/vault_name.h"
#include "hsm/host_restore.h"
#include "hsm/host_setup.h"
#include "hsm/recovery_shares.h"
#include "hsm/token_seed.h"

namespace coffer::cli {
namespace {

namespace fs = std::filesystem;
using hsm::HostSetup;

constexpr std::string_view kSoftHsmModule = "/usr/lib/softhsm/libsofthsm2.so";
constexpr const char* kSystemctl = "/usr/bin/systemctl";
constexpr int kExitStopped = 99;
constexpr int kExitWrongState = 69;  // As of an error that somebody has to mend first.

struct Options {
  hsm::HostPlaces places;
  std::string module{kSoftHsmModule};
  std::string token;  // URI of an existing one.
  std::string softhsm_conf;
  std::string pin_file;
  ShareOptions shares;
  std::vector<std::string> from_shares;
  std::string restore;  // Folder of a cold backup.
  bool accept_lost = false;
  bool no_recovery = false;
  bool generate_in_token = false;
  bool plain_pin = false;
  bool no_first_key = false;
  bool no_start = false;
  unsigned wait_seconds = 30;
  std::string bus;  // Another than the system's.
  std::string systemctl{kSystemctl};
  std::string stop_after;
};

// 32 characters of 5 random bits each.
Result<SecretBytes> draw_pin() {
  constexpr std::string_view kAlphabet = "0123456789abcdefghjkmnpqrstvwxyz";
  auto pin = SecretBytes::random(32);
  if (!pin) return pin;
  for (auto& b : pin->reveal_mutable())
    b = static_cast<std::byte>(kAlphabet[std::to_integer<std::size_t>(b) % kAlphabet.size()]);
  return pin;
}

Result<SecretBytes> read_pin_file(const std::string& path) {
  if (path.empty())
    return fail(Reason::kInvalidArgs, "an existing token needs --pin-file with its PIN");
  auto pin = read_secret_file(path, 256);
  if (!pin) return pin;
  auto size = pin->size();
  while (size > 0 && pin->reveal()[size - 1] <= std::byte{' '}) --size;
  pin->shrink(size);
  if (size == 0) return fail(Reason::kInvalidArgs, path + " holds no PIN");
  return pin;
}

// What a run finds, and what that asks of the token.
struct Ground {
  std::optional<hsm::HostRestore> restore;
  std::string lost;      // Lines that name keys which the restore could not bring back.
  bool standby = false;  // The token is to stand by for the one that the agent uses.
  std::string root_id;   // What the token's root key is to be; "": any.
};

// From recovery shares that stand for the root key that is wanted. Nothing is made before.
Result<SecretBytes> seed_of_root(const Options& options, const Ground& ground, std::ostream& out) {
  auto seed =
      options.from_shares.empty() ? seed_from_input(out) : seed_from_files(options.from_shares);
  if (!seed) return seed;
  const auto root = hsm::root_id_of_seed(*seed);
  if (!root) return tl::unexpected(root.error());
  if (*root != ground.root_id)
    return fail(Reason::kConfirmMismatch, "the recovery shares stand for the root key " + *root +
                                              ", the keys are under " + ground.root_id);
  if (!ground.restore) return seed;
  if (const auto begun = ground.restore->begin(); !begun) return tl::unexpected(begun.error());
  return seed;
}

// The seed of the keys to be made; empty where the token generates them. Its shares are handed out
// and confirmed before anything is made with it.
Result<SecretBytes> draw_seed(const Options& options, const Ground& ground, std::ostream& out) {
  if (!ground.root_id.empty()) return seed_of_root(options, ground, out);
  if (options.generate_in_token) {
    out << "The keys are generated in the token. NOBODY CAN BACK THEM UP: if the token is lost or "
           "damaged, every volume and key of this host is lost with it.\n";
    return SecretBytes();
  }
  if (!options.from_shares.empty()) return seed_from_files(options.from_shares);
  auto seed = SecretBytes::random(hsm::kShareSeedBytes);
  if (!seed) return seed;
  if (options.no_recovery) {
    out << "No recovery shares are made. If the token is lost or damaged, every volume and key of "
           "this host is lost with it.\n";
    return seed;
  }
  const auto handed = hand_out_shares(*seed, options.shares, out);
  if (!handed) return tl::unexpected(handed.error());
  return seed;
}

void describe(const hsm::SetupAnswer& token, const HostSetup& setup, std::ostream& out) {
  out << "token            " << printable(token.uri, 500) << "\n"
      << "token kind       "
      << (token.kind == keyring::TokenKind::kHardware ? "hardware" : "software") << "\n"
      << "root key         " << token.root_id
      << (token.keys_were_there   ? " (was there already)"
          : token.root_never_left ? " (generated in the token)"
                                  : " (imported, never extractable again)")
      << "\n";
  const bool encrypted = setup.credential_kind() == HostSetup::CredentialKind::kEncrypted;
  out << "PIN              "
      << (encrypted ? "encrypted credential" : "PLAIN FILE, readable by root") << "\n";
  if (!setup.credential_note().empty())
    out << "warning          " << setup.credential_note() << "\n";
}

Result<hsm::SetupAnswer> use_existing(const Options& options, HostSetup& setup,
                                      const Ground& ground, const SecretBytes& pin,
                                      std::ostream& out) {
  const HostSetup::Existing token{options.module, options.token, options.softhsm_conf};
  const auto there = setup.look_at(token, pin);
  if (there && !ground.root_id.empty() && there->root_id != ground.root_id)
    return fail(Reason::kNameTaken, "the token holds the root key " +
                                        printable(there->root_id, 64) + ", the keys are under " +
                                        ground.root_id);
  if (there && ground.restore) {
    if (const auto begun = ground.restore->begin(); !begun) return tl::unexpected(begun.error());
  }
  if (there) return setup.take_token(token, pin, SecretBytes());
  if (there.error().reason() != Reason::kNoSuchKey) return tl::unexpected(there.error());
  const auto seed = draw_seed(options, ground, out);
  if (!seed) return tl::unexpected(seed.error());
  return setup.take_token(token, pin, *seed);
}

Result<void> make_token(const Options& options, HostSetup& setup, const Ground& ground,
                        std::ostream& out) {
  const bool existing = !options.token.empty();
  const auto pin = existing ? read_pin_file(options.pin_file) : draw_pin();
  if (!pin) return tl::unexpected(pin.error());
  Result<hsm::SetupAnswer> made = fail(Reason::kInternal, "no token was made");
  if (existing) {
    made = use_existing(options, setup, ground, *pin, out);
  } else {
    const auto seed = draw_seed(options, ground, out);
    if (!seed) return tl::unexpected(seed.error());
    made = setup.make_softhsm_token(options.module, *pin, *seed);
  }
  if (!made) return tl::unexpected(made.error());
  describe(*made, setup, out);
  return {};
}

// Whether units are there to be started and stopped.
bool has_units(const Options& options) {
  if (options.systemctl != kSystemctl) return true;
  return options.places.prefix.empty() && fs::exists("/run/systemd/system");
}
bool starts_units(const Options& options) {
  return !options.no_start && has_units(options);
}

HostUnits units_of(const Options& options) {
  return {options.systemctl, options.places.token_name};
}

// A host that had its id before, from a backup, may have an agent that holds the journal already.
// start_units() starts it again.
void stop_agent(const Options& options, const HostSetup& setup) {
  if (setup.host_id_there() && starts_units(options)) units_of(options).stop_agent();
}

// A host whose agent keeps its keys already is left to it: a run for the first key alone would stop
// it, and start a second vault beside the one that serves.
Result<void> refuse_complete(const Options& options, const HostSetup& setup, bool has_first_key) {
  if (!setup.host_id_there() || !(has_first_key || setup.key_store_there())) return {};
  const auto done = "token \"" + options.places.token_name + "\" is set up already";
  if (has_first_key) return fail(Reason::kNameTaken, done);
  return fail(Reason::kNameTaken,
              done + ", without a key `default`: `coffer key create default` makes one");
}

// The first key of a host that has none and is to have one.
Result<void> make_first_key(const Options& options, HostSetup& setup, std::ostream& out) {
  const auto there = setup.first_key_there();
  if (!there) return tl::unexpected(there.error());
  const bool wanted = !*there && !options.no_first_key;
  if (wanted) {
    stop_agent(options, setup);
    if (const auto made = setup.make_first_key(SecretBytes()); !made)
      return pass(made.error(), "make the first key");
  }
  out << "first key        "
      << (*there   ? "default (was there already)"
          : wanted ? "default"
                   : "none: adopt volumes, or make one with `coffer key create default`")
      << "\n";
  return {};
}

// What is put in place is the folder that the agent has, and that one which waits for `coffer init`
// was given by its unit. The mark keeps both from being started until the restore has ended.
Result<void> put_stores(const Options& options, HostSetup& setup, Ground& ground,
                        std::ostream& out) {
  if (has_units(options) && !units_of(options).stop_all())
    return fail(Reason::kInProgress,
                "cofferd could not be stopped, and its state is not replaced while it runs");
  using Lost = hsm::HostRestore::Lost;
  auto put = ground.restore->put_stores(setup, SecretBytes(),
                                        options.accept_lost ? Lost::kAccept : Lost::kRefuse);
  if (!put) return pass(put.error(), "restore the backup");
  out << "key records      "
      << (put->report ? "restored: " + put->report->str() : "restored by an earlier run") << "\n";
  ground.lost = std::move(put->lost);
  return {};
}

// Nothing is made before it is known that the token has, or will have, the backup's root key.
Result<void> prepare_restore(HostSetup& setup, const hsm::HostRestore& restore, bool token_there,
                             std::ostream& out) {
  if (const auto room = restore.require_room(); !room) return room;
  const auto& manifest = restore.manifest();
  out << "backup           of " << manifest.keys << (manifest.keys == 1 ? " key" : " keys")
      << ", root key " << manifest.root_id << "\n"
      << "host id          " << manifest.host.str() << "\n";
  if (const auto device = restore.put_device_keys(); !device) return device;
  setup.before_token_counts(
      [&restore](const std::string& staging) { return restore.put_floors(staging); });
  if (!token_there) return {};
  if (const auto covered = restore.require_floors(); !covered) return covered;
  return restore.begin();
}

// A standby has the root key of the keys that are there, and makes none.
Result<void> prepare_standby(HostSetup& setup, Ground& ground) {
  auto root = setup.root_of_keys();
  if (!root) return tl::unexpected(root.error());
  if (root->empty() || !setup.host_id_there())
    return fail(
        Reason::kNoSuchKey,
        "there are no keys for a standby to open: set up the token that cofferd uses first");
  ground.root_id = std::move(*root);
  return {};
}

Result<void> prepare(const Options& options, HostSetup& setup, Ground& ground, bool token_there,
                     std::ostream& out) {
  const auto standby = setup.is_standby();
  if (!standby) return tl::unexpected(standby.error());
  ground.standby = *standby;
  if (ground.standby && ground.restore)
    return fail(Reason::kInvalidArgs, "a backup is restored onto the token that cofferd uses");
  if (ground.restore) {
    ground.root_id = ground.restore->manifest().root_id;
    return prepare_restore(setup, *ground.restore, token_there, out);
  }
  if (const auto none = hsm::HostRestore::require_none(options.places); !none) return none;
  if (ground.standby) {
    if (const auto ready = prepare_standby(setup, ground); !ready) return ready;
  }
  const auto host = setup.ensure_host_id();
  if (!host) return tl::unexpected(host.error());
  out << "host id          " << host->str() << "\n";
  return {};
}

// Key records: a backup's, a first one, or those that are there.
Result<void> settle_keys(const Options& options, HostSetup& setup, Ground& ground,
                         std::ostream& out) {
  if (ground.standby) return {};
  if (!ground.restore) return make_first_key(options, setup, out);
  if (const auto put = put_stores(options, setup, ground, out); !put) return put;
  // From here on either command ends it.
  return ground.restore->end();
}

Result<void> set_up(const Options& options, HostSetup& setup, Ground& ground, std::ostream& out) {
  const auto progress = setup.how_far();
  if (progress == HostSetup::Progress::kConfigured) {
    const auto there = setup.first_key_there();
    if (!there) return tl::unexpected(there.error());
    if (const auto running = refuse_complete(options, setup, *there); !running) return running;
  }
  if (const auto uses = setup.require_agent_uses_token(); !uses) return uses;
  if (progress != HostSetup::Progress::kNothing)
    out << "Finishing what an interrupted run of coffer init began.\n";

  const bool token_there = progress != HostSetup::Progress::kNothing;
  if (const auto ready = prepare(options, setup, ground, token_there, out); !ready) return ready;
  if (!token_there) {
    if (const auto made = make_token(options, setup, ground, out); !made) return made;
  }
  if (progress != HostSetup::Progress::kConfigured) {
    if (const auto configured = setup.configure(); !configured) return configured;
  }
  if (const auto settled = settle_keys(options, setup, ground, out); !settled) return settled;
  return setup.publish_host_id();
}

// Enables and starts what now has a token to work with. False: some were not, and `err` says which.
bool start_units(const Options& options, std::ostream& out, std::ostream& err) {
  const auto outcome = units_of(options).start();
  if (outcome.failed.empty()) {
    out << "started          cofferd and its sockets\n";
    return true;
  }
  for (const auto& unit : outcome.started) out << "started          " << unit << "\n";
  for (const auto& unit : outcome.failed)
    err << "coffer: " << unit << " could not be enabled or started: systemctl status " << unit
        << "\n";
  return false;
}

// What was set up by the vault's program alone has to work inside its unit, too: the token has to
// be up there, within the time that the options give it.
Result<void> await_token(const Options& options, const Ground& ground, std::ostream& out) {
  const auto up = wait_provider_up(options.bus, ground.standby ? "" : options.places.token_name,
                                   Deadline::after(std::chrono::seconds(options.wait_seconds)));
  if (up) {
    out << "token is         up: " << printable(*up, 500) << "\n";
    return {};
  }
  std::string what = "all is set up, but cofferd does not find the token up after " +
                     std::to_string(options.wait_seconds) + " s";
  if (!options.token.empty())
    what +=
        " (the vault's unit reaches no network and no device unless a drop-in lets it, as those "
        "in /usr/share/doc/coffer/examples do)";
  return pass(up.error(), what);
}

// What a restore is for. The command tells it volume by volume.
int open_volumes(const Options& options) {
  std::vector<std::string> arguments{"/proc/self/exe", "unlock", "--all"};
  if (!options.bus.empty()) arguments.insert(arguments.end(), {"--bus", options.bus});
  return run_program(arguments);
}

// Whether the units have what they need though this run failed: it has stopped the agent, or the
// one before it was cut off when all but the units was there. A restore is to be finished first.
bool is_ready(const Options& options, const HostSetup& setup) {
  return setup.how_far() == HostSetup::Progress::kConfigured && setup.host_id_there() &&
         setup.require_agent_uses_token() && hsm::HostRestore::require_none(options.places);
}

int init(Options& options, Invocation& invocation) {
  const auto report = [&](const Error& error) {
    invocation.err << "coffer: " << error.str() << "\n";
    return reason_info(error.reason()).exit_status;
  };
  if (::geteuid() != 0) return report(Error(Reason::kAccessDenied, "coffer init runs as root"));
  const bool has_recovery = !options.no_recovery && !options.generate_in_token &&
                            options.from_shares.empty() && options.restore.empty();
  if (options.shares.ask_nothing && options.shares.folder.empty() && has_recovery)
    options.shares.folder = options.places.prefix + "/root/coffer-recovery";

  const auto after_step = [&](std::string_view step) {
    if (step == options.stop_after) ::_exit(kExitStopped);
  };
  HostSetup setup(options.places, after_step);
  Ground ground;
  if (!options.restore.empty()) {
    auto opened = hsm::HostRestore::open(options.places, options.restore, after_step);
    if (!opened) return report(opened.error());
    ground.restore.emplace(std::move(*opened));
  }
  if (options.plain_pin) setup.keep_pin_plain();
  const auto done = set_up(options, setup, ground, invocation.out);
  const bool starting = starts_units(options) && (done || is_ready(options, setup));
  // cofferd knows of a standby from its start.
  if (starting && ground.standby) units_of(options).stop_agent();
  const bool started = !starting || start_units(options, invocation.out, invocation.err);
  if (!done) {
    if (!hsm::HostRestore::require_none(options.places))
      invocation.err << "coffer: cofferd does not start until this restore is finished, by the "
                        "same command, or given up (/usr/share/doc/coffer/operations.md)\n";
    return report(done.error());
  }
  if (!started) return kExitWrongState;
  const int complete = ground.lost.empty() ? kExitOk : kExitLost;
  if (starting && options.wait_seconds > 0) {
    const auto up = await_token(options, ground, invocation.out);
    if (!up) return report(up.error());
    const int opened = ground.restore ? open_volumes(options) : kExitOk;
    if (opened != kExitOk && complete == kExitOk) return opened;
  }
  if (complete == kExitLost)
    invocation.err << "coffer: all is restored but these keys, which do not open on this token:\n"
                   << ground.lost;
  return complete;
}

void declare_hidden(CLI::App& command, Options& options) {
  const std::string none;  // An empty group is not shown in the help.
  command.add_option("--prefix", options.places.prefix)->group(none);
  command.add_option("--vault-program", options.places.vault_program)->group(none);
  command.add_option("--agent-program", options.places.agent_program)->group(none);
  command.add_option("--vault-user", options.places.vault_user.user)->group(none);
  command.add_option("--agent-user", options.places.agent_user.user)->group(none);
  command.add_option("--bus", options.bus)->group(none);
  command.add_option("--systemctl", options.systemctl)->group(none);
  command.add_option("--stop-after", options.stop_after)->group(none);
}

}  // namespace

void declare_init(CLI::App& parent, Invocation& invocation) {
  const auto options = std::make_shared<Options>();
  auto* command = parent.add_subcommand("init", "Set up this host's token and first key (root)");
  command->add_option("--token-name", options->places.token_name, "Name of the vault (local)")
      ->check([](const std::string& name) {
        return is_vault_name(name) ? std::string() : std::string(kVaultNameRule);
      });
  command->add_option("--module", options->module, "PKCS#11 module (SoftHSM)");
  command->add_option("--token", options->token, "PKCS#11 URI of a token that is there already");
  command->add_option("--pin-file", options->pin_file, "File with that token's PIN");
  command->add_option("--softhsm-conf", options->softhsm_conf,
                      "SOFTHSM2_CONF of that token, where it is SoftHSM's");
  command->add_option("--shares", options->shares.scheme, "Recovery shares, NEEDED/TOTAL (2/3)");
  command->add_option("--shares-dir", options->shares.folder,
                      "Write the shares to files there instead of the terminal");
  command->add_option("--confirm-shares", options->shares.confirm,
                      "Files to read shares back from, instead of typing them");
  command->add_option("--from-shares", options->from_shares,
                      "Files with shares: make the token anew with the keys they stand for");
  auto* none = command->add_flag("--no-recovery", options->no_recovery,
                                 "No shares: a lost token loses every volume");
  auto* generate = command->add_flag("--generate-in-token", options->generate_in_token,
                                     "Keys nobody can back up: a lost token loses every volume");
  command
      ->add_option("--restore", options->restore,
                   "Folder that `coffer backup` made: its keys and volumes, on the token made anew")
      ->excludes(none)
      ->excludes(generate);
  command
      ->add_flag("--accept-lost", options->accept_lost,
                 "Restore all but the keys that do not open, and name those (exit 3)")
      ->needs("--restore");
  command->add_flag("--plain-pin", options->plain_pin,
                    "Keep the PIN in a file of root's, not as an encrypted credential");
  command->add_flag("--yes", options->shares.ask_nothing,
                    "Ask nothing; shares go to /root/coffer-recovery unless told otherwise");
  command->add_flag("--no-first-key", options->no_first_key,
                    "No key `default`: the volumes to be adopted bring theirs");
  command->add_flag("--no-start", options->no_start, "Enable and start no units");
  command
      ->add_option("--wait", options->wait_seconds,
                   "Seconds for cofferd to find the token up (30); 0: do not wait")
      ->check(CLI::Range(0, 3600));
  declare_hidden(*command, *options);
  command->callback([options, &invocation] {
    invocation.action = [options, &invocation] { return init(*options, invocation); };
  });
}

}  // namespace coffer::cli
