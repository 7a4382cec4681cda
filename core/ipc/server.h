// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/base/unique_fd.h"
#include "core/ipc/channel.h"
#include "core/ipc/client.h"
#include "core/ipc/frame.h"

namespace coffer::ipc {

// A request under way. `body` is valid until the handler returns; fds that the handler does not
// move out are closed.
struct Request {
  std::uint16_t type = 0;
  ByteView body;
  std::vector<UniqueFd> fds;
  PeerCredentials peer;
  std::uint64_t connection = 0;  // Number of the connection: never used again.
  SteadyTime received = std::chrono::steady_clock::now();  // Before it waited for its turn.
  bool notice = false;                                     // Nobody waits for an answer.
};

// Server answers the requests of the other processes. One thread reads each connection; handlers
// run on it one by one, or, with `handler_threads`, on a pool that all connections share, so that a
// slow request does not hold up those behind it.
//
// A malformed message ends its connection; an error of the handler is sent back and does not.
// Thread-safe; stop() and the destructor must not be called by a handler.
class Server {
 public:
  // Its value is the answer: `body` with `secret` behind it, and the fds.
  using Handler = std::function<Result<Reply>(Request& request)>;

  struct Options {
    std::string name;                  // In messages: "worker control".
    std::vector<uid_t> peers;          // Users that may connect; empty: this process's own alone.
    bool secret = false;               // Requests are received into locked memory.
    std::size_t connections_max = 16;  // Further ones are closed at once.
    std::size_t handler_threads = 0;   // 0: on the connection's thread.
    // With handler threads: a request that comes while no other waits for one is handled by the
    // thread that read it, and another thread of the connection reads on meanwhile: nobody waits
    // until a second thread has woken up. One request of each connection at a time.
    bool handle_on_reader = false;
    std::size_t queue_max = 256;  // Requests that wait for a handler thread: then
                                  // kLimitsExceeded is the answer.
    std::chrono::milliseconds send_timeout{
        5000};  // A peer that does not take its answer is cut off.
    std::function<void(std::uint64_t connection)> on_disconnected;
    // A connection refused or ended for its fault, in words, for the program's log.
    std::function<void(const Error& error)> on_fault;
  };

  Server(Options options, Handler handler);
  ~Server();  // stop()
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Accepts on `listening` from now on.   kInvalidArgs: it is not a listening socket.
  Result<void> listen(UniqueFd listening);

  // Serves a connected socket, as accept() gives it: for tests and inherited pairs.
  //   kAccessDenied    its user is not among `peers`.
  //   kLimitsExceeded  connections_max are open.
  //   kCancelled       the server is stopping.
  Result<void> serve(UniqueFd connected);

  // Sends a notice (request id 0) to every connection; one that cannot take it is cut off.
  void notify_all(std::uint16_t type, ByteView body);

  // Accepts and reads no more, lets running handlers finish and their answers go out, closes,
  // joins. May be called again.
  void stop();

  std::size_t connections() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace coffer::ipc
