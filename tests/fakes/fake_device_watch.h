// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "agent/volume/device_watch.h"

namespace coffer::tests {

// FakeDeviceWatch shows the disks that a test plugs in. Every mapping is settled at once unless
// settle_by_hand() was called. list() and is_settled() from any thread, the rest from the loop's.
class FakeDeviceWatch final : public agent::DeviceWatch {
 public:
  void plug(const agent::Disk& disk) {
    {
      const std::scoped_lock lock(mutex_);
      disks_.push_back(disk);
    }
    if (observer_.changed) observer_.changed();
  }
  void unplug(const std::string& node) {
    {
      const std::scoped_lock lock(mutex_);
      std::erase_if(disks_, [&](const agent::Disk& disk) { return disk.node == node; });
    }
    if (observer_.changed) observer_.changed();
  }
  void settle_by_hand() {
    const std::scoped_lock lock(mutex_);
    by_hand_ = true;
  }
  void settle(const std::string& mapping) {
    {
      const std::scoped_lock lock(mutex_);
      settled_.insert(mapping);
    }
    if (observer_.settled) observer_.settled(mapping);
  }

  Result<void> start(Observer observer) override {
    observer_ = std::move(observer);
    return {};
  }
  Result<std::vector<agent::Disk>> list() const override {
    ++waiting_;
    lists_held_.wait(true);
    --waiting_;
    const std::scoped_lock lock(mutex_);
    if (lists_fail_) return fail(Reason::kIoError, "the disks cannot be listed as the test asked");
    return disks_;
  }
  // Every list() hangs until let_lists_go(), as on a device that is dead.
  void hold_lists() { lists_held_ = true; }
  void let_lists_go() {
    lists_held_ = false;
    lists_held_.notify_all();
  }
  int waiting() const { return waiting_; }  // Calls of list() that have not come back.
  void fail_lists(bool they_fail) {
    const std::scoped_lock lock(mutex_);
    lists_fail_ = they_fail;
  }
  bool is_settled(const std::string& mapping) const override {
    const std::scoped_lock lock(mutex_);
    return !by_hand_ || settled_.contains(mapping);
  }

 private:
  Observer observer_;
  mutable std::mutex mutex_;  // Guards all below.
  std::vector<agent::Disk> disks_;
  std::set<std::string> settled_;
  bool by_hand_ = false;
  bool lists_fail_ = false;
  mutable std::atomic<bool> lists_held_{false};
  mutable std::atomic<int> waiting_{0};
};

}  // namespace coffer::tests
