// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/worker/worker.h"
#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/base/unique_fd.h"
#include "core/ipc/channel.h"

namespace coffer::agent {

// What one start of `coffer-worker --one-shot` does: one call of libcryptsetup on one volume. The
// library is neither thread-safe nor free of state, and a forked child would inherit key memory:
// hence a program of its own for each. It gets the request and then the key, if it needs one, over
// a socket pair (never argument or environment), answers, and exits.
struct OneShotRequest {
  enum class Mode : std::uint8_t { kVerify = 1, kActivate = 2, kBuild = 3, kReplaceToken = 4 };

  Mode mode = Mode::kVerify;
  luks2::Profile profile;
  std::string mapping;
  bool read_only = false;
  bool allow_discards = false;
  bool no_read_workqueue = false;
  bool no_write_workqueue = false;
  std::string data_path;           // kVerify, kActivate: the node of the data device.
  std::uint64_t data_bytes = 0;    // Its length.
  std::uint64_t header_bytes = 0;  // Length of the device that the header is for.
  std::string label;               // kBuild.
  std::string token_json;          // kBuild, kReplaceToken.

  Bytes encode() const;
  static Result<OneShotRequest> decode(ByteView bytes);  // kMessageInvalid
};

struct OneShotReply {
  std::uint64_t boot_usec = 0;  // When the mapping answered.
  // kBuild, kReplaceToken:
  Bytes outcome;    // An encoded luks2::CheckOutcome.
  UniqueFd header;  // A sealed memfd of both copies.
};

struct OneShotEnd {
  Result<OneShotReply> reply;
  // It was killed before it answered, or its answer was lost: what it made may stand. Without
  // this, an error means that it made nothing.
  bool cut_off = false;
  bool lives = false;  // It hangs in the kernel although killed, and may still end its step.
};

// The child's side: takes one request from `socket`, carries it out, answers. The process ends
// then; its status is 0 when the answer was a success. fds of kVerify and kActivate: header, data
// device; of kReplaceToken: header.
int run_one_shot(UniqueFd socket);

// The parent's side: starts `program --one-shot` for one request and waits for its end. A child
// that is not done by the deadline is killed. Blocks; thread-safe.
//   the error that the child answered
//   kTimedOut         killed; a mapping may be left without a table.
//   kActivationFailed the child could not be started, or died.
class OneShotRunner {
 public:
  explicit OneShotRunner(std::string program) : program_(std::move(program)) {}

  // `key` is null exactly for kReplaceToken, which needs none.
  OneShotEnd run(const OneShotRequest& request, std::span<const int> fds, const SecretBytes* key,
                 Deadline deadline);

 private:
  OneShotEnd talk(ipc::Channel& channel, const OneShotRequest& request, std::span<const int> fds,
                  const SecretBytes* key, Deadline deadline);

  const std::string program_;
};

// Starts a program with a minimal environment, default signals and `stdin_fd` and `output_fd` as
// its standard streams. -1: /dev/null.
Result<pid_t> start_program(const std::vector<std::string>& command, int stdin_fd, int output_fd);

// Waits for a child until `deadline`, then kills it. Its wait(2) status; kTimedOut: it was killed.
Result<int> end_program(pid_t pid, Deadline deadline);

}  // namespace coffer::agent
