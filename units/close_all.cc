// SPDX-License-Identifier: Apache-2.0
// coffer-close-all: takes Coffer's mappings away at shutdown, after all unmounts and with the
// daemons gone. It knows them by their marks in /run/coffer/dm, named after the mappings' uuids,
// and touches no other. Plain ioctls of linux/dm-ioctl.h.
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/base/unique_fd.h"

namespace coffer {
namespace {

constexpr std::string_view kUsage =
    "usage: coffer-close-all [--marks FOLDER] [--limit SECONDS-1..50]\n";
constexpr int kExitUsage = 64;
constexpr std::size_t kMarksMax = 16'384;
constexpr std::chrono::milliseconds kPause{100};

dm_ioctl request_for(const std::string& uuid) {
  dm_ioctl request{};
  request.version[0] = DM_VERSION_MAJOR;
  request.data_size = sizeof(request);
  request.data_start = sizeof(request);
  uuid.copy(request.uuid, sizeof(request.uuid) - 1);
  return request;
}

class Mapper {
 public:
  static Result<Mapper> open() {
    UniqueFd control(::open("/dev/mapper/control", O_RDWR | O_CLOEXEC));
    if (!control.valid()) return fail_errno(errno, "open /dev/mapper/control");
    return Mapper(std::move(control));
  }

  // What the kernel says of the mapping with `uuid`. kNotUnlocked: there is none.
  Result<dm_ioctl> status(const std::string& uuid) const {
    dm_ioctl request = request_for(uuid);
    if (::ioctl(control_.get(), DM_DEV_STATUS, &request) == 0) return request;
    if (errno == ENXIO) return fail(Reason::kNotUnlocked, uuid);
    return fail_errno(errno, "look at " + uuid);
  }

  Result<void> remove(const std::string& uuid, bool deferred) const {
    dm_ioctl request = request_for(uuid);
    if (deferred) request.flags |= DM_DEFERRED_REMOVE;
    if (::ioctl(control_.get(), DM_DEV_REMOVE, &request) == 0) return {};
    if (errno == ENXIO) return {};
    return fail_errno(errno, "remove " + uuid, Reason::kBusy);
  }

 private:
  explicit Mapper(UniqueFd control) : control_(std::move(control)) {}

  UniqueFd control_;
};

std::vector<std::string> marks_in(const std::string& folder) {
  std::vector<std::string> uuids;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    std::string uuid = entry.path().filename().string();
    const bool ours = uuid.starts_with("CRYPT-") && uuid.size() < DM_UUID_LEN;
    if (ours && uuids.size() < kMarksMax) uuids.push_back(std::move(uuid));
  }
  return uuids;
}

// One pass over those that are left. What stands on top of another goes first by itself: the one
// below is busy until then. Gives those that are still there.
std::vector<std::string> close_what_is_free(const Mapper& mapper, const std::string& folder,
                                            const std::vector<std::string>& uuids) {
  std::vector<std::string> left;
  for (const std::string& uuid : uuids) {
    const auto status = mapper.status(uuid);
    const bool gone = !status && status.error().reason() == Reason::kNotUnlocked;
    if (!gone && (!status || status->open_count > 0 || !mapper.remove(uuid, false))) {
      left.push_back(uuid);
      continue;
    }
    std::error_code error;
    std::filesystem::remove(std::filesystem::path(folder) / uuid, error);
  }
  return left;
}

std::string holders_of(const dm_ioctl& status) {
  const auto number = static_cast<dev_t>(status.dev);
  const std::string folder = "/sys/dev/block/" + std::to_string(::major(number)) + ":" +
                             std::to_string(::minor(number)) + "/holders";
  std::string names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    names += " " + entry.path().filename().string();
  }
  return names.empty() ? " a mount or a program" : names;
}

void report_left(const Mapper& mapper, const std::vector<std::string>& uuids) {
  for (const std::string& uuid : uuids) {
    const auto status = mapper.status(uuid);
    if (!status) continue;
    static_cast<void>(mapper.remove(uuid, true));
    std::printf("<4>%s is still in use by%s: it goes when that lets go\n", status->name,
                holders_of(*status).c_str());
  }
}

int close_all(const std::string& folder, std::chrono::seconds limit) {
  std::vector<std::string> left = marks_in(folder);
  const std::size_t count = left.size();
  if (count == 0) return 0;
  const auto mapper = Mapper::open();
  if (!mapper) {
    std::printf("<3>%s\n", mapper.error().str().c_str());
    return 1;
  }
  const Deadline deadline = Deadline::after(limit);
  left = close_what_is_free(*mapper, folder, left);
  while (!left.empty() && !deadline.passed()) {
    std::this_thread::sleep_for(kPause);
    left = close_what_is_free(*mapper, folder, left);
  }
  report_left(*mapper, left);
  std::printf("<5>closed %zu of %zu volumes\n", count - left.size(), count);
  return left.empty() ? 0 : 1;
}

}  // namespace
}  // namespace coffer

int main(int argc, char** argv) try {
  std::string folder = "/run/coffer/dm";
  int limit = 20;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view name(argv[i]);
    const bool has_value = i + 1 < argc;
    if (has_value && name == "--marks") {
      folder = argv[i + 1];
    } else if (has_value && name == "--limit") {
      limit = std::atoi(argv[i + 1]);
    } else {
      limit = 0;
    }
  }
  if (limit < 1 || limit > 50) {
    std::fwrite(coffer::kUsage.data(), 1, coffer::kUsage.size(), stderr);
    return coffer::kExitUsage;
  }
  return coffer::close_all(folder, std::chrono::seconds(limit));
} catch (...) {
  return 70;
}
