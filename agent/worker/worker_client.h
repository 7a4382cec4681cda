// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "agent/worker/worker.h"
#include "core/base/unique_fd.h"

namespace coffer::agent {

inline constexpr std::string_view kWorkerSocketPath = "/run/coffer/worker.sock";

// WorkerClient is the Worker behind the socket `control` of coffer-worker. One connection for all
// calls; it is made at the first and again after it broke. Tickets and handles end with it.
struct WorkerClientOptions {
  // Makes a connection: ipc::connect_to(path), or in tests an end of a socket pair.
  std::function<Result<UniqueFd>(Deadline)> connect;
  // Told from another thread when the connection is made (true) or lost (false). May be empty.
  std::function<void(bool connected)> on_connected;
};

std::unique_ptr<Worker> make_worker_client(WorkerClientOptions options);
std::unique_ptr<Worker> make_worker_client(const std::string& socket_path);

}  // namespace coffer::agent
