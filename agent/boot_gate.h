// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "agent/host_engine.h"
#include "core/ipc/boot_protocol.h"
#include "core/ipc/server.h"

namespace coffer::agent {

// BootGate answers coffer-boot-wait on boot.sock: when the volumes that open at boot have settled
// or failed, or when the wait that was asked for is over. A plain socket, because the bus does not
// exist yet.
//
// Made and destroyed on the loop's thread; requests wait on the server's threads.
class BootGate {
 public:
  // Calls `status` on the loop. `deadline` is the longest wait, and the one of requests that name
  // none. Both outlive it.
  BootGate(ipc::EventLoop& loop, std::function<BootStatus()> status,
           std::chrono::milliseconds deadline);
  ~BootGate();
  BootGate(const BootGate&) = delete;
  BootGate& operator=(const BootGate&) = delete;

  Result<void> listen(UniqueFd socket) { return server_.listen(std::move(socket)); }
  Result<void> serve(UniqueFd connected) { return server_.serve(std::move(connected)); }

  // The boot's unlocking is over.
  void finish();
  // There will be none: who waits, and who asks from now on, is told `why` at once.
  void refuse(const Error& why);

 private:
  Result<ipc::Reply> answer(const ipc::Request& request);
  Result<BootStatus> ask();

  ipc::EventLoop& loop_;
  // Shared with the tasks that ask for it on the loop.
  std::shared_ptr<std::function<BootStatus()>> status_;
  const std::chrono::milliseconds deadline_;
  std::mutex mutex_;  // Guards over_, stopping_ and refusal_.
  std::condition_variable changed_;
  bool over_ = false;
  bool stopping_ = false;
  std::optional<Error> refusal_;
  ipc::Server server_;
};

// A status as the wire has it.
ipc::BootReport boot_report(const BootStatus& status);

}  // namespace coffer::agent
