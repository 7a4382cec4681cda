// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/ipc/client.h"
#include "core/ipc/server.h"
#include "core/ipc/sockets.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::tests {

using ipc::Client;
using ipc::Reply;
using ipc::Request;
using ipc::Server;
using std::chrono::milliseconds;

inline constexpr std::uint16_t kEcho = 1;
inline constexpr std::uint16_t kFail = 2;
inline constexpr std::uint16_t kBlock = 3;
inline constexpr std::uint16_t kTooLarge = 4;

inline Deadline soon() {
  return Deadline::after(milliseconds(20));
}
inline Deadline later() {
  return Deadline::after(std::chrono::seconds(20));
}

// Gate holds handlers back until it is opened.
class Gate {
 public:
  void wait() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }
  void open() {
    const std::scoped_lock lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void until_waiting(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int waiting_ = 0;
};

// Its parameter: whether callers receive and readers handle, or threads of their own do.
class ClientServerTest : public testing::TestWithParam<bool> {
 protected:
  ~ClientServerTest() override { gate.open(); }

  Result<Reply> handle(Request& request) {
    Reply reply;
    switch (request.type) {
      case kFail:
        return fail(Reason::kKeyDisabled, "the key is disabled");
      case kBlock:
        gate.wait();
        break;
      case kTooLarge:
        reply.body.resize(ipc::kMessageBytesMax);
        return reply;
      default:
        break;
    }
    reply.body.assign(request.body.begin(), request.body.end());
    reply.fds = std::move(request.fds);
    return reply;
  }

  Server::Options server_options() {
    Server::Options options;
    options.name = "test server";
    options.handle_on_reader = GetParam();
    options.on_fault = [this](const Error& error) {
      const std::scoped_lock lock(mutex);
      faults.push_back(error);
    };
    options.on_disconnected = [this](std::uint64_t) {
      const std::scoped_lock lock(mutex);
      ++disconnected;
      changed.notify_all();
    };
    return options;
  }
  void until_disconnected(int count) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return disconnected >= count; });
  }

  void start_server(const Server::Options& options) {
    server = std::make_unique<Server>(options, [this](Request& r) { return handle(r); });
    auto listening = ipc::listen_at(path);
    ASSERT_THAT(listening, Succeeds());
    ASSERT_THAT(server->listen(std::move(*listening)), Succeeds());
  }
  void start_server() { start_server(server_options()); }

  Client::Options client_options() {
    Client::Options options;
    options.peer = "test server";
    options.connect = [this](Deadline deadline) { return ipc::connect_to(path, deadline); };
    options.lost = Reason::kWorkerLost;
    options.backoff_min = milliseconds(1);
    options.backoff_max = milliseconds(4);
    options.callers_receive = GetParam();
    return options;
  }

  TempDir folder;
  std::string path = folder.path() / "server.sock";
  Gate gate;
  std::mutex mutex;  // Guards faults and disconnected.
  std::condition_variable changed;
  std::vector<Error> faults;
  int disconnected = 0;
  std::unique_ptr<Server> server;
};

}  // namespace coffer::tests
