// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "core/base/result.h"

namespace coffer::tests {

// ListeningProcess is a program of ours, started by a test, that listens on one socket: it counts
// as started when it takes a connection there.
class ListeningProcess {
 public:
  // `words`: the program and its arguments, among them what makes it listen on `socket_path`.
  ListeningProcess(std::vector<std::string> words, std::string socket_path)
      : words_(std::move(words)), socket_path_(std::move(socket_path)) {}
  ~ListeningProcess();  // Kills it.
  ListeningProcess(const ListeningProcess&) = delete;
  ListeningProcess& operator=(const ListeningProcess&) = delete;

  // Starts the program, which is not running now, and waits until it listens.
  //   kTimedOut  it did not within 20 s.
  //   kInternal  it ended instead.
  Result<void> start();

  pid_t pid() const noexcept { return pid_; }  // -1: not running.
  void send_signal(int number) const;
  // Waits for its end; the status of waitpid(2).
  int wait();
  // Kills it and waits for its end.
  void kill();

 private:
  std::vector<std::string> words_;
  std::string socket_path_;
  pid_t pid_ = -1;
};

}  // namespace coffer::tests
