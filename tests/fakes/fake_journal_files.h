// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>

#include "core/audit/journal_files.h"

namespace coffer::tests {

// FakeDisk is a journal's folder in memory that fails, stalls and tears on demand. Thread-safe. It
// outlives the journals over it: what it holds then is what a crash would have left.
class FakeDisk {
 public:
  using Files = std::map<std::string, Bytes>;

  // What comes next fails: so many commits, and so many creations.
  void fail_commits(int count) { set(commits_to_fail_, count); }
  void fail_creates(int count) { set(creates_to_fail_, count); }
  // A failing commit leaves so many of its bytes behind. None by default.
  void tear_at(std::optional<std::size_t> bytes) {
    const std::scoped_lock lock(mutex_);
    torn_bytes_ = bytes;
  }
  // Commits wait until resume().
  void stall() { set(stalled_, true); }
  void wait_stalled() {  // Until one waits.
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return held_ > 0; });
  }
  void resume() {
    set(stalled_, false);
    changed_.notify_all();
  }

  Files files() const {
    const std::scoped_lock lock(mutex_);
    return files_;
  }
  void put(Files files) {
    const std::scoped_lock lock(mutex_);
    files_ = std::move(files);
  }
  int commits() const {
    const std::scoped_lock lock(mutex_);
    return commits_;
  }

  std::unique_ptr<audit::JournalFiles> open() { return std::make_unique<Folder>(*this); }

 private:
  template <class T>
  void set(T& member, T value) {
    const std::scoped_lock lock(mutex_);
    member = value;
  }

  Result<void> commit(const std::string& name, ByteView bytes, std::uint64_t offset) {
    std::unique_lock lock(mutex_);
    ++held_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !stalled_; });
    --held_;
    Bytes& file = files_[name];
    const bool failing = commits_to_fail_ > 0;
    const std::size_t kept = failing ? torn_bytes_.value_or(0) : bytes.size();
    const ByteView written = bytes.first(std::min(kept, bytes.size()));
    if (file.size() < offset + written.size()) file.resize(offset + written.size());
    std::copy(written.begin(), written.end(), file.begin() + static_cast<std::ptrdiff_t>(offset));
    if (failing) {
      --commits_to_fail_;
      return fail(Reason::kIoError, "sync " + name);
    }
    ++commits_;
    return {};
  }

  class Segment final : public audit::SegmentFile {
   public:
    Segment(FakeDisk& disk, std::string name) : disk_(disk), name_(std::move(name)) {}
    Result<void> commit(ByteView bytes, std::uint64_t offset_bytes) override {
      return disk_.commit(name_, bytes, offset_bytes);
    }
    Result<void> trim(std::uint64_t size_bytes) override {
      const std::scoped_lock lock(disk_.mutex_);
      disk_.files_[name_].resize(size_bytes);
      return {};
    }

   private:
    FakeDisk& disk_;
    std::string name_;
  };

  class Folder final : public audit::JournalFiles {
   public:
    explicit Folder(FakeDisk& disk) : disk_(disk) {}
    Result<std::unique_ptr<audit::SegmentFile>> create(const std::string& name,
                                                       std::uint64_t size_bytes) override {
      const std::scoped_lock lock(disk_.mutex_);
      if (disk_.creates_to_fail_ > 0) {
        --disk_.creates_to_fail_;
        return fail(Reason::kIoError, "no space is left for " + name);
      }
      if (disk_.files_.contains(name)) return fail(Reason::kIoError, name + " exists");
      disk_.files_[name] = Bytes(size_bytes);
      return std::make_unique<Segment>(disk_, name);
    }
    Result<void> truncate(const std::string& name, std::uint64_t size_bytes) override {
      const std::scoped_lock lock(disk_.mutex_);
      disk_.files_.at(name).resize(size_bytes);
      return {};
    }
    Result<void> remove(const std::string& name) override {
      const std::scoped_lock lock(disk_.mutex_);
      if (disk_.keep_removed_) return fail(Reason::kIoError, "remove " + name);
      disk_.files_.erase(name);
      return {};
    }
    Result<std::vector<std::string>> list() const override {
      const std::scoped_lock lock(disk_.mutex_);
      std::vector<std::string> names;
      for (const auto& [name, content] : disk_.files_) names.push_back(name);
      return names;
    }
    Result<Bytes> read(const std::string& name, std::size_t size_max) const override {
      const std::scoped_lock lock(disk_.mutex_);
      const auto found = disk_.files_.find(name);
      if (found == disk_.files_.end()) return fail(Reason::kNoSuchFile, "open " + name);
      if (found->second.size() > size_max) return fail(Reason::kLimitsExceeded, name);
      return found->second;
    }

   private:
    FakeDisk& disk_;
  };

 public:
  // remove() fails: what a failed beginning left stays.
  void keep_removed() { set(keep_removed_, true); }

 private:
  mutable std::mutex mutex_;  // Guards all below.
  std::condition_variable changed_;
  Files files_;
  int commits_to_fail_ = 0;
  int creates_to_fail_ = 0;
  int commits_ = 0;
  int held_ = 0;  // Commits that have begun.
  std::optional<std::size_t> torn_bytes_;
  bool stalled_ = false;
  bool keep_removed_ = false;
};

}  // namespace coffer::tests
