// SPDX-License-Identifier: Apache-2.0
#include "core/audit/journal_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/base/files.h"
#include "core/base/unique_fd.h"

namespace coffer::audit {
namespace {

class FolderSegment final : public SegmentFile {
 public:
  FolderSegment(UniqueFd file, std::string name) : file_(std::move(file)), name_(std::move(name)) {}

  Result<void> commit(ByteView bytes, std::uint64_t offset_bytes) override {
    if (auto written = write_exactly_at(file_.get(), bytes, static_cast<off_t>(offset_bytes));
        !written) {
      return pass(written.error(), "write " + name_);
    }
    // Once only: a second sync after a failed one may succeed although the data are lost.
    if (::fdatasync(file_.get()) != 0) return fail_errno(errno, "sync " + name_);
    return {};
  }

  Result<void> trim(std::uint64_t size_bytes) override {
    if (::ftruncate(file_.get(), static_cast<off_t>(size_bytes)) != 0 ||
        ::fsync(file_.get()) != 0) {
      return fail_errno(errno, "trim " + name_);
    }
    return {};
  }

 private:
  UniqueFd file_;
  std::string name_;
};

class Folder final : public JournalFiles {
 public:
  explicit Folder(UniqueFd folder) : folder_(std::move(folder)) {}

  Result<std::unique_ptr<SegmentFile>> create(const std::string& name,
                                              std::uint64_t size_bytes) override {
    UniqueFd file(::openat(folder_.get(), name.c_str(),
                           O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file.valid()) return fail_errno(errno, "make " + name);
    const auto size = static_cast<off_t>(size_bytes);
    int set_aside = ::fallocate(file.get(), 0, 0, size);
    // A file system that cannot set space aside still takes the journal; a full disk then shows at
    // the write.
    if (set_aside != 0 && errno == EOPNOTSUPP) set_aside = ::ftruncate(file.get(), size);
    if (set_aside != 0 || ::fsync(file.get()) != 0 || ::fsync(folder_.get()) != 0) {
      const int cause = errno;
      ::unlinkat(folder_.get(), name.c_str(), 0);
      return fail_errno(cause, "set aside " + name);
    }
    return std::make_unique<FolderSegment>(std::move(file), name);
  }

  Result<void> truncate(const std::string& name, std::uint64_t size_bytes) override {
    const UniqueFd file(::openat(folder_.get(), name.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file.valid()) return fail_errno(errno, "open " + name);
    if (::ftruncate(file.get(), static_cast<off_t>(size_bytes)) != 0 || ::fsync(file.get()) != 0) {
      return fail_errno(errno, "cut " + name);
    }
    return {};
  }

  Result<void> remove(const std::string& name) override {
    if (::unlinkat(folder_.get(), name.c_str(), 0) != 0 || ::fsync(folder_.get()) != 0) {
      return fail_errno(errno, "remove " + name);
    }
    return {};
  }

  Result<std::vector<std::string>> list() const override {
    UniqueFd again(::openat(folder_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!again.valid()) return fail_errno(errno, "open the journal's folder");
    const CHandle<DIR, ::closedir> entries(::fdopendir(again.get()));
    if (entries == nullptr) return fail_errno(errno, "read the journal's folder");
    static_cast<void>(again.release());  // Closed with the handle.
    std::vector<std::string> names;
    for (;;) {
      errno = 0;
      const dirent* entry = ::readdir(entries.get());
      if (entry == nullptr) break;
      const std::string name(static_cast<const char*>(entry->d_name));
      if (name != "." && name != "..") names.push_back(name);
    }
    if (errno != 0) return fail_errno(errno, "read the journal's folder");
    std::sort(names.begin(), names.end());
    return names;
  }

  Result<Bytes> read(const std::string& name, std::size_t size_max) const override {
    const UniqueFd file(::openat(folder_.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file.valid()) return fail_errno(errno, "open " + name);
    struct stat facts{};
    if (::fstat(file.get(), &facts) != 0) return fail_errno(errno, "look at " + name);
    if (!S_ISREG(facts.st_mode)) return fail(Reason::kIoError, name + " is no file");
    const auto size = static_cast<std::uint64_t>(facts.st_size);
    if (size > size_max) return fail(Reason::kLimitsExceeded, name + " is too large");
    Bytes content(size);
    if (auto got = read_exactly_at(file.get(), content, 0); !got) {
      return pass(got.error(), "read " + name);
    }
    return content;
  }

 private:
  UniqueFd folder_;  // Locked, when it is to be written to.
};

}  // namespace

Result<std::unique_ptr<JournalFiles>> open_journal_folder(const std::string& folder) {
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail_errno(errno, "make " + folder);
  }
  UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, "open " + folder);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return fail(Reason::kBusy, "another process writes the journal in " + folder);
    }
    return fail_errno(errno, "lock " + folder);
  }
  return std::make_unique<Folder>(std::move(fd));
}

Result<std::unique_ptr<JournalFiles>> read_journal_folder(const std::string& folder) {
  UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, "open " + folder);
  return std::make_unique<Folder>(std::move(fd));
}

}  // namespace coffer::audit
