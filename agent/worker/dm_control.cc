// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/dm_control.h"

#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/secret_bytes.h"
#include "core/base/unique_fd.h"

namespace coffer::agent {
namespace {

constexpr std::size_t kAnswerBytesStart = 16 * 1024;
constexpr std::size_t kAnswerBytesMax = 4 * 1024 * 1024;
constexpr std::uint32_t kListHasUuidsMinor = 45;  // From this 4.x of the interface on (Linux 5.13).

// The kernel's 64-bit form of a device number.
dev_t to_dev(std::uint64_t number) {
  return makedev((number >> 8U) & 0xfffU, (number & 0xffU) | ((number >> 12U) & 0xfff00U));
}

// One ioctl's buffer: the fixed head and what follows it.
class Call {
 public:
  Call(const std::string& name, std::uint32_t flags, std::size_t size_bytes = kAnswerBytesStart)
      : buffer_(std::max(size_bytes, sizeof(dm_ioctl))) {
    auto& head = this->head();
    head.version[0] = DM_VERSION_MAJOR;
    head.data_size = static_cast<std::uint32_t>(buffer_.size());
    head.data_start = sizeof(dm_ioctl);
    head.flags = flags;
    name.copy(head.name, sizeof(head.name) - 1);
  }

  dm_ioctl& head() noexcept { return *reinterpret_cast<dm_ioctl*>(buffer_.data()); }
  std::span<std::byte> data() noexcept { return std::span(buffer_).subspan(sizeof(dm_ioctl)); }

  // What the kernel put behind the head.
  ByteView answer() noexcept {
    const auto& h = head();
    const auto end = std::min<std::size_t>(h.data_size, buffer_.size());
    if (h.data_start > end) return {};
    return ByteView(buffer_).subspan(h.data_start, end - h.data_start);
  }

 private:
  std::vector<std::byte> buffer_;
};

// A struct at `offset` of what the kernel answered; zeros when it is not all there.
template <class T>
T struct_at(ByteView answer, std::size_t offset) {
  T value{};
  if (offset <= answer.size() && sizeof(T) <= answer.size() - offset)
    std::memcpy(&value, answer.data() + offset, sizeof(T));
  return value;
}

std::string text_at(ByteView answer, std::size_t offset) {
  if (offset >= answer.size()) return {};
  const auto rest = as_text(answer.subspan(offset));
  return std::string(rest.substr(0, rest.find('\0')));
}

// What follows a name in the list, from the next multiple of 8: number of events, flags, UUID.
std::optional<std::string> uuid_behind(ByteView answer, std::size_t end_of_name) {
  const auto at = (end_of_name + 7) / 8 * 8;
  const auto flags = struct_at<std::uint32_t>(answer, at + sizeof(std::uint32_t));
  if ((flags & DM_NAME_LIST_FLAG_HAS_UUID) != 0)
    return text_at(answer, at + 2 * sizeof(std::uint32_t));
  if ((flags & DM_NAME_LIST_FLAG_DOESNT_HAVE_UUID) != 0) return std::string();
  return std::nullopt;
}

// Takes the padded name out of a fixed array.
template <std::size_t N>
std::string fixed_text(const char (&text)[N]) {  // NOLINT(*-c-arrays): the kernel's own.
  return {text, ::strnlen(text, N)};
}

tl::unexpected<Error> failed(std::string_view step, const std::string& name) {
  const int error = errno;
  const auto what = std::string(step) + " " + name;
  if (error == ENXIO || error == ENODEV)
    return fail(Reason::kNotUnlocked, what + ": there is no such mapping");
  if (error == EBUSY) return fail(Reason::kBusy, what + ": it is in use");
  return fail_errno(error, what, Reason::kActivationFailed);
}

// Asks again with more room while the kernel says that the answer does not fit.
Result<Call> ask(const DmControl::Ioctl& ioctl, unsigned long request, const std::string& name,
                 std::uint32_t flags, std::string_view step) {
  for (std::size_t size = kAnswerBytesStart;; size *= 4) {
    Call call(name, flags, size);
    if (ioctl(request, &call.head()) != 0) return failed(step, name);
    if ((call.head().flags & DM_BUFFER_FULL_FLAG) == 0 || size >= kAnswerBytesMax) return call;
  }
}

// One target behind the head, for DM_TABLE_LOAD.
Result<void> load_table(const DmControl::Ioctl& ioctl, const std::string& name, std::uint32_t flags,
                        const DmControl::Target& target, std::string_view parameters) {
  Call call(name, flags, sizeof(dm_ioctl) + sizeof(dm_target_spec) + parameters.size() + 8);
  dm_target_spec spec{};
  spec.sector_start = target.start_sectors;
  spec.length = target.length_sectors;
  target.type.copy(spec.target_type, sizeof(spec.target_type) - 1);
  std::memcpy(call.data().data(), &spec, sizeof(spec));
  parameters.copy(reinterpret_cast<char*>(call.data().data()) + sizeof(spec), parameters.size());
  call.head().target_count = 1;
  const int r = ioctl(DM_TABLE_LOAD, &call.head());
  const int error = errno;
  wipe(call.data());  // It may have held a key.
  errno = error;
  if (r != 0) return failed("load a table into", name);
  return {};
}

}  // namespace

Result<DmControl> DmControl::open() {
  UniqueFd fd(::open("/dev/mapper/control", O_RDWR | O_CLOEXEC));
  if (!fd.valid() && (errno == ENOENT || errno == ENODEV || errno == ENXIO))
    return fail(Reason::kUnsupported, "this kernel has no device-mapper");
  if (!fd.valid()) return fail_errno(errno, "open /dev/mapper/control", Reason::kActivationFailed);
  return DmControl(
      [shared = std::make_shared<const UniqueFd>(std::move(fd))](
          unsigned long request, dm_ioctl* call) { return ::ioctl(shared->get(), request, call); });
}

Result<std::vector<DmControl::Named>> DmControl::list() const {
  // Without the flag the kernel leaves the UUIDs out, and each mapping has to be asked for its own.
  auto call = ask(ioctl_, DM_LIST_DEVICES, "", DM_UUID_FLAG, "list mappings");
  if (!call) return tl::unexpected(call.error());
  const auto answer = call->answer();
  const bool with_uuids = call->head().version[1] >= kListHasUuidsMinor;
  std::vector<Named> names;
  for (std::size_t at = 0; at + sizeof(dm_name_list) <= answer.size();) {
    const auto entry = struct_at<dm_name_list>(answer, at);
    if (entry.dev == 0) break;
    Named named{text_at(answer, at + offsetof(dm_name_list, name)), std::nullopt};
    if (with_uuids)
      named.uuid = uuid_behind(answer, at + offsetof(dm_name_list, name) + named.name.size() + 1);
    names.push_back(std::move(named));
    if (entry.next == 0) break;
    at += entry.next;
  }
  return names;
}

Result<DmControl::Status> DmControl::status(const std::string& name) const {
  auto call = ask(ioctl_, DM_DEV_STATUS, name, 0, "look at");
  if (!call) return tl::unexpected(call.error());
  const auto& head = call->head();
  Status status;
  status.name = fixed_text(head.name);
  status.uuid = fixed_text(head.uuid);
  status.number = to_dev(head.dev);
  status.open_count = static_cast<std::uint32_t>(std::max(head.open_count, 0));
  status.live_table = (head.flags & DM_ACTIVE_PRESENT_FLAG) != 0;
  status.suspended = (head.flags & DM_SUSPEND_FLAG) != 0;
  status.read_only = (head.flags & DM_READONLY_FLAG) != 0;
  status.deferred = (head.flags & DM_DEFERRED_REMOVE) != 0;
  return status;
}

Result<std::vector<DmControl::Target>> DmControl::table(const std::string& name) const {
  // The targets' states, not the table: that would hold the key's name.
  auto call = ask(ioctl_, DM_TABLE_STATUS, name, DM_NOFLUSH_FLAG, "read the targets of");
  if (!call) return tl::unexpected(call.error());
  const auto answer = call->answer();
  std::vector<Target> targets;
  std::size_t at = 0;
  for (std::uint32_t i = 0; i < call->head().target_count; ++i) {
    const auto spec = struct_at<dm_target_spec>(answer, at);
    targets.push_back({spec.sector_start, spec.length, fixed_text(spec.target_type)});
    at = spec.next;
  }
  return targets;
}

Result<std::vector<dev_t>> DmControl::devices_below(const std::string& name) const {
  auto call = ask(ioctl_, DM_TABLE_DEPS, name, 0, "ask what is below");
  if (!call) return tl::unexpected(call.error());
  const auto answer = call->answer();
  const auto count = struct_at<dm_target_deps>(answer, 0).count;
  std::vector<dev_t> devices;
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto at = offsetof(dm_target_deps, dev) + i * sizeof(std::uint64_t);
    if (at + sizeof(std::uint64_t) > answer.size()) break;
    devices.push_back(to_dev(struct_at<std::uint64_t>(answer, at)));
  }
  return devices;
}

Result<void> DmControl::remove(const std::string& name, bool deferred) const {
  Call call(name, deferred ? DM_DEFERRED_REMOVE : 0);
  if (ioctl_(DM_DEV_REMOVE, &call.head()) != 0) return failed("remove", name);
  return {};
}

Result<void> DmControl::replace_by_error(const std::string& name) const {
  const auto targets = table(name);
  if (!targets) return tl::unexpected(targets.error());
  std::uint64_t sectors = 0;
  for (const auto& target : *targets)
    sectors = std::max(sectors, target.start_sectors + target.length_sectors);
  if (const auto loaded = load_table(ioctl_, name, 0, {0, sectors, "error"}, ""); !loaded)
    return loaded;
  // Without waiting for I/O that a dead disk will never finish, and without freezing a file system.
  Call suspend(name, DM_SUSPEND_FLAG | DM_NOFLUSH_FLAG | DM_SKIP_LOCKFS_FLAG);
  if (ioctl_(DM_DEV_SUSPEND, &suspend.head()) != 0) return failed("suspend", name);
  Call resume(name, DM_NOFLUSH_FLAG | DM_SKIP_LOCKFS_FLAG);
  if (ioctl_(DM_DEV_SUSPEND, &resume.head()) != 0) return failed("resume", name);
  return {};
}

Result<void> DmControl::probe_crypt(const std::string& name, const CryptProbe& probe) const {
  Call create(name, 0);
  if (ioctl_(DM_DEV_CREATE, &create.head()) != 0) return failed("make", name);

  // A key of zeros would do for some ciphers, but XTS refuses equal halves in FIPS mode.
  std::string key_hex;
  for (std::uint32_t i = 0; i < probe.key_bytes; ++i)
    key_hex += i < probe.key_bytes / 2 ? "5a" : "c3";
  const auto parameters = probe.cipher + " " + key_hex + " 0 " + probe.below +
                          " 0 1 sector_size:" + std::to_string(probe.sector_bytes);
  const Target target{0, probe.sector_bytes / 512, "crypt"};
  auto loaded = load_table(ioctl_, name, DM_READONLY_FLAG, target, parameters);
  const auto removed = remove(name, false);
  if (!loaded && loaded.error().reason() == Reason::kBusy) return loaded;
  if (!loaded) {
    const Error refused(Reason::kUnsupported, "the kernel cannot encrypt with " + probe.cipher +
                                                  ": " + loaded.error().message());
    return tl::unexpected(removed ? refused : with_leftover(refused, removed.error()));
  }
  return removed;
}

}  // namespace coffer::agent
