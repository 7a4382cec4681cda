// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/header_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

namespace coffer::agent {
namespace {

constexpr std::chrono::milliseconds kBetweenTries{50};
constexpr mode_t kFolderMode = 0700;  // As libcryptsetup makes it.
constexpr mode_t kLockMode = 0600;

std::string lock_path(const OpenDevice& device, const std::string& folder) {
  if (device.is_file()) return "/proc/self/fd/" + std::to_string(device.fd.get());
  return folder + "/L_" + std::to_string(device.identity.major) + ":" +
         std::to_string(device.identity.minor);
}

// Its last holder takes the file away: a lock of one that is gone locks nobody out.
bool still_there(int fd, const std::string& path) {
  struct stat held{};
  struct stat named{};
  return ::fstat(fd, &held) == 0 && ::stat(path.c_str(), &named) == 0 &&
         held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

}  // namespace

Result<UniqueFd> lock_header(const OpenDevice& device, Deadline deadline,
                             const std::string& folder) {
  const std::string path = lock_path(device, folder);
  if (!device.is_file() && ::mkdir(folder.c_str(), kFolderMode) != 0 && errno != EEXIST)
    return fail_errno(errno, "make " + folder);
  const int flags = device.is_file() ? O_RDWR | O_CLOEXEC : O_RDWR | O_CREAT | O_CLOEXEC;
  for (;;) {
    UniqueFd fd(::open(path.c_str(), flags, kLockMode));
    if (!fd.valid()) return fail_errno(errno, "open the lock of " + device.identity.node);
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) {
      if (still_there(fd.get(), path)) return fd;
      continue;
    }
    if (errno != EWOULDBLOCK && errno != EINTR)
      return fail_errno(errno, "lock the header of " + device.identity.node);
    if (deadline.passed())
      return fail(Reason::kBusy,
                  "another program is changing the header on " + device.identity.node);
    std::this_thread::sleep_for(kBetweenTries);
  }
}

}  // namespace coffer::agent
