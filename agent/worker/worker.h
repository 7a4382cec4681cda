// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/keyring/key_vault.h"
#include "core/luks2/checked_header.h"
#include "core/luks2/profile.h"

namespace coffer::agent {

// A device that the worker holds open since a scan. 0 is none. A handle ends with release(), with
// the connection, or kHandleLease after its last use; any use afterwards is kDeviceChanged: scan
// again.
using DeviceHandle = std::uint64_t;
inline constexpr std::chrono::seconds kHandleLease{180};

// Limits of one call; more is kLimitsExceeded.
inline constexpr std::size_t kScanItemsMax = 2048;
inline constexpr std::size_t kExpectItemsMax = 2048;
inline constexpr std::size_t kDevicePathBytesMax = 512;
inline constexpr std::size_t kMappingNameBytesMax = 80;

// What a block device is, as the kernel says. `sequence` differs whenever another disk gets the
// same numbers (0: the kernel does not tell).
struct DeviceIdentity {
  std::string node;  // Kernel name: "vdb". Of a file (tests alone): its path.
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  std::uint64_t size_bytes = 0;
  std::uint32_t sector_bytes = 512;  // Logical.
  bool read_only = false;
  std::uint64_t sequence = 0;

  friend bool operator==(const DeviceIdentity&, const DeviceIdentity&) = default;
};

struct ScanItem {
  std::string device;  // Under /dev; links are followed, what they lead to must be a block device.
  std::string header_device;  // "": the header is on the device.
};

struct ScannedDevice {
  DeviceHandle handle = 0;
  DeviceIdentity device;
  std::optional<DeviceIdentity> header_device;
  luks2::Sha256 header_sha256{};  // Of the bytes read, all of them.
  // kNotLuks2, kHeaderDamaged, kHeaderInvalid, kHeaderUnusual, kDeviceTooSmall: the message starts
  // with the field. kReaderLost: this header killed the reader. kIoError: it could not be read.
  // kTimedOut: the device does not answer. The handle holds all the same.
  Result<luks2::CheckedHeader> header = fail(Reason::kInternal, "not read");
};

enum class Action : std::uint8_t {
  kActivate = 1,  // Check the key, make the mapping.
  kVerify = 2,    // Check the key against the header that was scanned; nothing is made.
  kFormat = 3,    // Keep the key for build_header(). The result comes when the key has come.
};

// One key that the vault is about to deliver, and what it is for.
struct ExpectedKey {
  std::uint32_t index = 0;  // In the ticket; no two alike.
  DeviceHandle handle = 0;
  Action action = Action::kActivate;
  std::string mapping;     // kActivate: 1 to 80 of [A-Za-z0-9_.-].
  luks2::Profile profile;  // Pinned: this or nothing.
  bool read_only = false;
  bool allow_discards = false;
  bool no_read_workqueue = false;
  bool no_write_workqueue = false;
};

// A mapping that was made, or found open already.
struct Activated {
  std::string node;  // "dm-3"; "" after kVerify and kFormat.
  std::string dm_uuid;
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  std::uint64_t usable_boot_usec = 0;   // CLOCK_BOOTTIME at which the node answered.
  std::uint64_t settled_boot_usec = 0;  // And at which udev had made its links; 0: not waited for.

  friend bool operator==(const Activated&, const Activated&) = default;
};

// One key's end.
//   kTimedOut         it did not come, or the activation took too long; nothing is left behind.
//   kWrongKey         it is not the key of the header.
//   kProfileMismatch  vault and agent do not mean the same profile.
//   kAlreadyUnlocked  the mapping is there and ours.     kMappingForeign  it is there and not ours.
//   kDeviceChanged, kBusy, kActivationFailed, kCancelled
struct KeyOutcome {
  std::uint32_t index = 0;
  Result<Activated> result = fail(Reason::kInternal, "not begun");
};

// Whether a device may be formatted.
struct Emptiness {
  bool empty = false;
  std::string found;         // "ext4 file system on vdb", for people; "" when empty.
  std::string confirmation;  // What must be given to format it all the same, or where its identity
                             // is not known. It depends on the device and on the content of its
                             // first and last MiB.
};

// Which bytes a header of ours has, 4 KiB by 4 KiB: enough to find out later what of it was
// written, and to wipe that and nothing else. Opaque; to be kept in the registry row.
using HeaderPrint = Bytes;
inline constexpr std::size_t kHeaderPrintBytesMax = 4096;

struct BuiltHeader {
  luks2::Sha256 header_sha256{};  // Of both copies.
  HeaderPrint print;
  luks2::CheckedHeader header;  // What our own parser reads in it.
};

// How much of a header stands on a device.
enum class HeaderPresence : std::uint8_t { kNone = 1, kPartial = 2, kWhole = 3 };

enum class MappingState : std::uint8_t {
  kActive = 1,
  kSuspended = 2,
  kNoTable = 3,     // What a killed process left. No data behind it.
  kErrorTarget = 4  // Forced off, or its device is gone.
};

struct Mapping {
  std::string name;
  std::string dm_uuid;             // CRYPT-LUKS2-<32 hex digits>-<name>
  std::optional<VolumeId> volume;  // From dm_uuid.
  std::string node;                // "dm-3"
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  std::uint32_t backing_major = 0;  // Of the device below; 0:0 when it is gone.
  std::uint32_t backing_minor = 0;
  std::uint32_t open_count = 0;
  MappingState state = MappingState::kActive;
  bool read_only = false;
  bool deferred = false;     // Goes when its last user lets go.
  bool marked = false;       // Made by us: has its file in /run/coffer/dm.
  bool device_gone = false;  // The device below has been unplugged.
};

enum class DeactivateMode : std::uint8_t {
  kPlain = 1,     // kBusy names who holds it.
  kDeferred = 2,  // Goes now, or when the last user lets go.
  kForce = 3,     // Its data end now: users get I/O errors, and it goes when they let go.
};

// Worker is what the agent lets the privileged process do, in values: devices, headers, mappings.
// WorkerClient speaks to the process coffer-worker; tests/fakes has another.
//
// Thread-safe. Every call may block up to its deadline, so none is made on the event loop. Errors
// of every call beside those named: kWorkerLost (nothing is known about what was begun; adopt by
// list_mappings()), kTimedOut, kDeviceChanged (the handle ended or the disk below it is another),
// kLimitsExceeded, kMessageInvalid.
class Worker {
 public:
  virtual ~Worker() = default;

  // Opens the devices and reads all headers in one batch. One result per item, in order:
  //   kDeviceAbsent  nothing there, or not a block device under /dev.   kAccessDenied, kIoError.
  //   kTimedOut      it does not answer; the others have their results in time all the same.
  virtual Result<std::vector<Result<ScannedDevice>>> scan(std::span<const ScanItem> items,
                                                          Deadline deadline) = 0;
  virtual void release(std::span<const DeviceHandle> handles) noexcept = 0;

  // Announces keys; once it returned, the vault may deliver them. They are given up at `deadline`,
  // or when the connection ends. What has begun by then finishes, but not past `deadline`: it is
  // ended then, and what it made is taken away. All or none:
  //   kProfileMismatch  a scanned header differs from the profile: the message starts with the
  //   field. kForeignData      kFormat is not for checking: use check_empty() first. kInvalidArgs,
  //   kBusy
  virtual Result<void> expect(const keyring::Ticket& ticket, std::span<const ExpectedKey> keys,
                              Deadline deadline) = 0;

  // Waits for the keys of a ticket of this Worker object and calls `each` once per key, on the
  // caller's thread, in the order they end. Returns when all have ended. kTimedOut: `deadline` came
  // first; the ticket is cancelled, and `each` was not called for the rest.
  virtual Result<void> wait_results(const keyring::Ticket& ticket,
                                    const std::function<void(KeyOutcome)>& each,
                                    Deadline deadline) = 0;

  // Gives up what has not begun (kCancelled in the results) and forgets kept keys.
  virtual void cancel(const keyring::Ticket& ticket) noexcept = 0;

  virtual Result<std::vector<Mapping>> list_mappings(Deadline deadline) = 0;

  // Ends a mapping of ours. `volume` must be the one it belongs to. Busy ones are tried again for a
  // moment, because udev looks into every new node.
  //   kNotUnlocked, kMappingForeign, kBusy (plain: the message names the holders)
  virtual Result<void> deactivate(const std::string& mapping, const VolumeId& volume,
                                  DeactivateMode mode, Deadline deadline) = 0;

  // Takes away what cannot serve any more: mappings of ours without a table, and (deferred, so that
  // they go when their mount lets go) those whose device is gone. Gives what it did that to.
  virtual Result<std::vector<Mapping>> clean_mappings(Deadline deadline) = 0;

  // Looks at the first and the last MiB of the device and of its header device.
  virtual Result<Emptiness> check_empty(DeviceHandle handle, Deadline deadline) = 0;

  // Provisioning, after expect(kFormat) and the key's coming, in this order: build, keep the print
  // in a durable row, write. build_header() probes the cipher in the kernel, makes the header in
  // memory around the kept key, reads it back with our own parser and compares it with the profile.
  // Nothing is written.
  //   kTicketUnknown  no key was kept at that place.   kTokenInvalid, kTokenSpace
  //   kUnsupported    the kernel lacks the cipher.     kDeviceTooSmall
  virtual Result<BuiltHeader> build_header(const keyring::Ticket& ticket, std::uint32_t index,
                                           const std::string& label, const std::string& token_json,
                                           Deadline deadline) = 0;

  // Writes what was built: second copy, flush, first copy, flush. Looks again first whether the
  // device is empty, or `confirmation` is the one of this device and content, and takes it for
  // itself.
  //   kForeignData      not empty, no confirmation: nothing was written. The message has it.
  //   kConfirmMismatch  not the confirmation: nothing was written.
  //   kBusy             mounted or held: nothing was written.
  virtual Result<void> write_header(const keyring::Ticket& ticket, std::uint32_t index,
                                    const std::string& confirmation, Deadline deadline) = 0;

  // For start-up, after a crash in between: how much of the header is there, and wiping what of the
  // device matches the print, block by block, and nothing else. Each gives what it found there; the
  // first holds the device for itself meanwhile, the second to wipe.   kBusy: held by another.
  virtual Result<HeaderPresence> check_written(DeviceHandle handle, const HeaderPrint& print,
                                               Deadline deadline) = 0;
  virtual Result<HeaderPresence> wipe_header(DeviceHandle handle, const HeaderPrint& print,
                                             Deadline deadline) = 0;

  // Puts `token_json` in the place of the coffer token in the header that was scanned, also of a
  // volume that is open. Wraps and records may be others; nothing else of token and header changes
  // but the header's sequence id. Both copies are made anew, the one that was bad first, so that a
  // whole one stands there at any instant; both are read back.
  //   kTokenMissing, kTokenInvalid   it is no token, the header had none, or more would change.
  //   kTokenSpace     the header has no room for it.
  //   kDeviceChanged  what stands there is not the header that was scanned: nothing was written.
  //   kBusy           another program is changing the header: nothing was written.
  //   kAccessDenied   the device is read-only.   kIoError, kHeaderUnusual
  virtual Result<void> replace_token(DeviceHandle handle, const std::string& token_json,
                                     Deadline deadline) = 0;

  // Makes a file system on a mapping of ours; one of that type that is there already is left alone,
  // and a success.
  //   kUnsupported  not "ext4" or "xfs", or its program is not installed.
  //   kForeignData  something else is on it: nothing was written.
  //   kBusy, kIoError: the program's own words
  virtual Result<void> make_file_system(const std::string& mapping, const VolumeId& volume,
                                        const std::string& type, const std::string& label,
                                        Deadline deadline) = 0;
};

// The profile of a volume that Coffer makes: 64 KiB of metadata twice, room for seven keyslots,
// data from 16 MiB (attached) or from the first byte (detached).
luks2::Profile new_volume_profile(const Uuid& volume, bool detached);

// The name device-mapper knows a mapping by, as libcryptsetup makes it.
std::string mapping_dm_uuid(const VolumeId& volume, std::string_view mapping);
bool is_mapping_name(std::string_view name) noexcept;

}  // namespace coffer::agent
