// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/base/result.h"
#include "core/base/unique_fd.h"
#include "core/ipc/channel.h"
#include "hsm/delivery_protocol.h"

namespace coffer::agent {

// DeliveryServer takes the keys that vaults deliver (hsm/delivery_protocol.h). Only the vault's
// user may connect. Whoever sends what is no delivery is cut off.
//
// `take` gets each key, on a thread of its connection, and answers at once: what it does with the
// key happens elsewhere.
class DeliveryServer {
 public:
  using Take = std::function<Result<void>(hsm::Delivery)>;
  static constexpr std::size_t kConnectionsMax = 16;

  DeliveryServer(std::vector<uid_t> peers, Take take);
  ~DeliveryServer();  // stop()
  DeliveryServer(const DeliveryServer&) = delete;
  DeliveryServer& operator=(const DeliveryServer&) = delete;

  Result<void> listen(UniqueFd listening);  // Once.
  // A connected socket: for tests and inherited pairs. kAccessDenied, kLimitsExceeded.
  Result<void> serve(UniqueFd connected);
  void stop();

 private:
  struct Connection {
    std::shared_ptr<ipc::Channel> channel;
    std::thread thread;
    bool done = false;
  };

  void accept_all();
  void answer_all(Connection& connection);

  const std::vector<uid_t> peers_;
  const Take take_;
  UniqueFd wake_;
  UniqueFd listening_;
  std::thread acceptor_;
  std::mutex mutex_;  // Guards what follows.
  std::list<Connection> connections_;
  bool stopping_ = false;
};

}  // namespace coffer::agent
