// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/base/unique_fd.h"
#include "hsm/setup_protocol.h"

namespace coffer::hsm {

// Child processes of `coffer init`, each as the user whose files it makes. The caller has no other
// thread and has never initialised a PKCS#11 module, so that it may fork.

// A user by name, with the groups it is in; "" stands for the caller itself.
struct RunAs {
  std::string user;
  // kNoSuchFile: there is no such user.
  Result<void> change_owner(const std::string& path) const;
};

// A child that was started, and the caller's end of the SEQPACKET pair that is its standard input.
class Child {
 public:
  Child(pid_t pid, UniqueFd socket) noexcept : pid_(pid), socket_(std::move(socket)) {}
  Child(Child&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), socket_(std::move(other.socket_)) {}
  Child& operator=(Child&&) = delete;
  ~Child();  // Closes the socket and waits.

  UniqueFd take_socket() noexcept { return std::move(socket_); }
  // Waits for its end.   kInternal: not with status 0; the message says how.
  Result<void> wait();

 private:
  pid_t pid_;
  UniqueFd socket_;
};

// Starts a program. `inherited`, when it is a descriptor, is the child's descriptor 3.
Result<Child> start_program(const std::vector<std::string>& arguments, const RunAs& user,
                            int inherited = -1);

// Runs `work` in a child as `user`; what it returns comes back.   kTimedOut: not within `time_max`;
// the child is waited for all the same.
Result<void> run_as(const RunAs& user, const std::function<Result<void>()>& work,
                    std::chrono::seconds time_max = std::chrono::seconds(90));

// Runs a program to its end, as the caller; the first line that it writes, without its end. What it
// says on its standard error goes where the caller's does.   kInternal: it ended with a failure.
Result<std::string> first_line_of(const std::vector<std::string>& arguments);

// Asks `coffer-vault --setup`, started as `user`.
Result<SetupAnswer> ask_setup(const std::string& vault_program, const RunAs& user,
                              const SetupRequest& request);

}  // namespace coffer::hsm
