// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/device_calls.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

namespace coffer::agent {
namespace {
// Nothing came back for so long: what is under way may hang, so one more thread goes on beside it.
constexpr std::chrono::milliseconds kStall{100};
}  // namespace

struct DeviceCalls::Hanging {
  std::mutex mutex;  // Guards devices.
  std::multiset<std::uint64_t> devices;

  std::size_t count() {
    const std::lock_guard lock(mutex);
    return devices.size();
  }
  bool has(std::uint64_t device) {
    const std::lock_guard lock(mutex);
    return device != 0 && devices.contains(device);
  }
  void add(std::uint64_t device) {
    const std::lock_guard lock(mutex);
    devices.insert(device);
  }
  void forget(std::uint64_t device) {
    const std::lock_guard lock(mutex);
    devices.erase(devices.find(device));
  }
};

// The calls of one make(), shared with its threads.
struct DeviceCalls::Batch {
  std::shared_ptr<Hanging> hanging;
  std::mutex mutex;  // Guards what follows.
  std::condition_variable came_back;
  std::vector<Call> calls;
  std::vector<End> ends;
  std::set<std::size_t> under_way;
  std::size_t next = 0;
  std::size_t ended = 0;
  bool given_up = false;

  // The next call to be made, or the number of calls. Those of a hanging device end here.
  std::size_t take() {
    for (; next < calls.size() && hanging->has(calls[next].device); ++next, ++ended)
      ends[next] = End::kHangs;
    return next < calls.size() ? next++ : next;
  }
};

DeviceCalls::DeviceCalls() : hanging_(std::make_shared<Hanging>()) {}

void DeviceCalls::work(Batch& batch) {
  std::unique_lock lock(batch.mutex);
  while (!batch.given_up) {
    const auto index = batch.take();
    batch.came_back.notify_one();
    if (index == batch.calls.size()) return;
    auto make = std::exchange(batch.calls[index].make, nullptr);
    batch.under_way.insert(index);
    lock.unlock();
    make();
    lock.lock();
    batch.under_way.erase(index);
    if (!batch.given_up) {
      batch.ends[index] = End::kDone;
      ++batch.ended;
      continue;
    }
    const auto device = batch.calls[index].device;
    lock.unlock();
    make = nullptr;  // Closing what was opened too late may hang as well.
    batch.hanging->forget(device);
    return;
  }
}

bool DeviceCalls::start_thread(const std::shared_ptr<Batch>& batch) {
  try {
    // Detached, for nobody can wait for a thread that hangs in the kernel. It owns all it touches.
    std::thread([batch] { work(*batch); }).detach();
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

std::vector<DeviceCalls::End> DeviceCalls::make(std::vector<Call> calls, Deadline deadline) {
  const auto count = calls.size();
  // A call that only just began does not hang.
  if (deadline.passed()) return std::vector(count, End::kNotBegun);
  const auto batch = std::make_shared<Batch>();
  batch->hanging = hanging_;
  batch->calls = std::move(calls);
  batch->ends.assign(count, End::kNotBegun);

  std::size_t threads = 0;
  while (threads < std::min(kThreads, count) && start_thread(batch)) ++threads;

  std::unique_lock lock(batch->mutex);
  while (batch->ended < count && threads > 0 && !deadline.passed()) {
    const auto before = batch->ended;
    const auto stall = std::min(deadline.at(), Deadline::after(kStall).at());
    const bool moved = batch->came_back.wait_until(
        lock, stall, [&] { return batch->ended > before || batch->ended == count; });
    const auto threads_max = kThreads + kHangingMax - std::min(kHangingMax, hanging_->count());
    if (!moved && batch->next < count && threads < threads_max && start_thread(batch)) ++threads;
  }
  batch->given_up = true;
  for (const auto index : batch->under_way) {
    batch->ends[index] = End::kHangs;
    hanging_->add(batch->calls[index].device);  // Its thread forgets it when it has come back.
  }
  return batch->ends;
}

std::size_t DeviceCalls::hanging() const {
  return hanging_->count();
}

}  // namespace coffer::agent
