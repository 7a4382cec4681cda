// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/base/unique_fd.h"
#include "core/ipc/frame.h"

namespace coffer::ipc {

// What a server answered. Of a client with `secret` set the body is in `secret`, else in `body`.
struct Reply {
  Bytes body;
  SecretBytes secret;
  std::vector<UniqueFd> fds;
};

// Client asks a server and waits for the answer, over a connection that it makes again when it
// broke. Calls of many threads share the connection; answers may come in any order. It never
// repeats a request by itself: only the caller knows whether that is safe.
//
// Thread-safe. call() and send() block, so none is made on the event loop. One thread of the client
// receives; the callbacks run on it, must be quick, and must not call the client's call(), send()
// or stop().
class Client {
 private:
  class Impl;

 public:
  struct Options {
    std::string peer;  // Name of the server in messages: "coffer-vault@local".
    // Makes a connection: connect_to(path), or in tests an end of a socket pair.
    std::function<Result<UniqueFd>(Deadline)> connect;
    Reason lost = Reason::kIoError;   // What calls fail with when the server is away or goes away.
    std::optional<uid_t> server_uid;  // Refuse a server of another user (see PeerCredentials).
    bool secret = false;              // Answers are received into locked memory.
    bool stay_connected = false;      // Connect at once and again, without waiting for a call.
    std::size_t calls_max = 256;      // Calls under way.
    // For a server that sends no notices: a call that waits for its answer receives itself, and
    // what comes for others meanwhile, instead of waiting until a second thread has woken up. Who
    // sends (send()) waits for the answer soon: until somebody waits, it lies in the socket.
    bool callers_receive = false;
    std::chrono::milliseconds backoff_min{20};    // Wait after the first failed attempt; doubles,
    std::chrono::milliseconds backoff_max{2000};  // up to this.
    std::chrono::milliseconds connect_timeout{2000};
    std::function<void(std::uint16_t type, ByteView body, std::vector<UniqueFd> fds)> on_notice;
    std::function<void(bool connected)> on_connected;  // Each time the connection is made or lost.
  };

  explicit Client(Options options);
  ~Client();  // stop()
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Sends a request whose body is `parts` one after another, and waits for its answer. While there
  // is no connection it waits for the next attempt. A call that timed out may still be carried out.
  //   the error the server answered with, its message in front
  //   Options::lost    the attempt to connect failed, or the server went away before it answered.
  //   kTimedOut        no answer by `deadline`.
  //   kLimitsExceeded  calls_max are under way.
  //   kInvalidArgs     the message is above a limit.
  //   kMessageInvalid  the answer was malformed; the connection was closed.
  //   kCancelled       the client is stopping.
  Result<Reply> call(std::uint16_t type, std::span<const ByteView> parts, std::span<const int> fds,
                     Deadline deadline);
  Result<Reply> call(std::uint16_t type, ByteView body, std::span<const int> fds,
                     Deadline deadline) {
    return call(type, std::span(&body, 1), fds, deadline);
  }
  Result<Reply> call(std::uint16_t type, ByteView body, Deadline deadline) {
    return call(type, body, {}, deadline);
  }

  // A call in two steps, for who has more to ask before the answer comes. It belongs to one thread
  // at a time, and ends before the client does; dropped, its answer is thrown away.
  class Sent {
   public:
    Sent(Sent&&) noexcept;
    Sent& operator=(Sent&&) = delete;
    ~Sent();
    // The answer, waited for until the deadline it was sent with. Once. Errors as call().
    Result<Reply> wait();

   private:
    friend class Client;
    struct State;
    explicit Sent(std::unique_ptr<State> state) noexcept;
    std::unique_ptr<State> state_;
  };
  Result<Sent> send(std::uint16_t type, std::span<const ByteView> parts, std::span<const int> fds,
                    Deadline deadline);

  // Fails all calls with kCancelled, closes and joins. May be called again.
  void stop();

  bool connected() const;
  std::uint64_t connections_made() const;  // Beyond the first one: reconnects.
  std::uint64_t attempts_failed() const;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace coffer::ipc
