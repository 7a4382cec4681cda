// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>

#include "core/base/clock.h"
#include "core/base/result.h"
#include "hsm/call_watch.h"
#include "hsm/connect_pause.h"
#include "hsm/sdf_module.h"
#include "hsm/sdf_session.h"

namespace coffer::hsm {

// SdfLink keeps an SDF device usable: it loads the library, opens the device, looks which one it
// is, and does all that again when the device was away. Work is handed in as a function; what its
// return value means, and whether it is repeated, is decided here by the table of sdf_errors.h.
//
// Thread-safe. Blocks as long as the library does: `watch` is what ends that.
class SdfLink {
 public:
  struct Options {
    std::string library_path;
    unsigned kek = 1;    // Index of the key encryption key that all keys lie under.
    std::string serial;  // Which device it must be; "": whichever the library opens.
    std::size_t sessions_max = 8;
    // After a failed attempt to reach the device, requests fail at once for this long.
    std::chrono::milliseconds reconnect_pause{500};
    CallWatch* watch = nullptr;
    const Clock* clock = &system_clock();
  };

  // What the device says of itself; texts are printable, whatever it says.
  struct Device {
    std::string maker;
    std::string name;
    std::string serial;
  };

  using Work = std::function<unsigned long(SdfSession&)>;
  // Looks at a device that was just opened, with nothing else going on; an error closes it again.
  using OnOpened = std::function<Result<void>(SdfSession&, const SdfModule&)>;

  SdfLink(Options options, OnOpened on_opened);
  ~SdfLink();
  SdfLink(const SdfLink&) = delete;
  SdfLink& operator=(const SdfLink&) = delete;

  // Runs `work` in a session, after connecting when that is needed, once more where the table says
  // so.
  //   kHsmAbsent, kHsmBusy, kHsmFailed, kHsmPinIncorrect, kUnsupported   by the table.
  //   kHsmAbsent      also: it is another device.
  //   kConfigInvalid  the library cannot be used.
  //   as on_opened
  Result<void> run(std::string_view step, const Work& work);

  // Runs `look` while it is connected, connecting when needed; it makes no call. Errors as run().
  Result<void> while_connected(const std::function<void(const Device&)>& look);

  // Connects when needed, without a pause, asks which device it is, and runs `work`.
  Result<Device> probe(const Work& work);

  // Whether it is connected as far as is known, without asking the device.
  bool connected();

  std::uint64_t failures() const;

 private:
  struct Attempt {
    unsigned long rv = 0;
    std::uint64_t generation = 0;  // Of the connection it was made on.
  };
  Result<void> connect_if_needed(bool at_once);
  Result<void> connect();
  Result<void> open();
  Attempt attempt(const Work& work);
  void disconnect();
  void disconnect_from(std::uint64_t generation);

  const Options options_;
  const OnOpened on_opened_;
  ConnectPause pause_;

  // Held shared while work runs, alone while the connection changes. Guards what follows.
  std::shared_mutex gate_;
  std::unique_ptr<SdfModule> module_;
  sdf::Handle device_ = nullptr;
  std::unique_ptr<SdfSessions> sessions_;
  std::optional<Device> facts_;
  std::uint64_t generation_ = 0;  // Counts connections.
};

}  // namespace coffer::hsm
