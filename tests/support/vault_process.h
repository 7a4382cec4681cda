// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/unique_fd.h"
#include "core/keyring/key_vault.h"
#include "hsm/vault_client.h"
#include "hsm/vault_config.h"
#include "tests/support/listening_process.h"
#include "tests/support/softhsm.h"

namespace coffer::tests {

// DeliverySocket plays the worker's side of the delivery of DEKs: it listens, takes every
// connection, and gives what comes to `sink`, whose answer it sends back.
class DeliverySocket {
 public:
  DeliverySocket(const std::filesystem::path& folder, keyring::DekSink& sink);
  ~DeliverySocket();
  DeliverySocket(const DeliverySocket&) = delete;
  DeliverySocket& operator=(const DeliverySocket&) = delete;

  const std::string& path() const noexcept { return path_; }

  // Closes every connection there is, as a worker that starts anew does; returns when all are
  // closed. A packet that came before is answered.
  void drop_connections();

 private:
  void listen();
  void serve(int fd, int epoch);

  keyring::DekSink& sink_;
  std::string path_;
  UniqueFd listening_;
  std::atomic<bool> stopping_{false};
  std::atomic<int> epoch_{0};  // A connection of an older one is closed.
  std::atomic<int> open_{0};   // Connections.
  std::thread thread_;
};

// VaultProcess is a coffer-vault started by a test, on sockets in a folder, with a client of it.
class VaultProcess {
 public:
  struct Options {
    const SoftHsmFolder* folder = nullptr;
    std::string label;        // The token's.
    std::string module_path;  // "": SoftHSM itself.
    // Instead of `folder`, `label` and `module_path`: another token, and where this process has its
    // files.
    std::optional<hsm::VaultConfig> config;
    std::filesystem::path files;
    std::string deliver_socket;
    std::chrono::milliseconds call_deadline{5000};
    std::chrono::milliseconds call_timeout{4500};
  };
  // Returns when the socket is there; the token may not be.
  static Result<std::unique_ptr<VaultProcess>> start(const Options& options);

  keyring::KeyVault& client() noexcept { return *client_; }
  pid_t pid() const noexcept { return process_->pid(); }
  void send_signal(int number) const { process_->send_signal(number); }
  // Waits for its end; the status of waitpid(2). The client stays and finds it gone.
  int wait() { return process_->wait(); }
  // Starts the program again on the same sockets, as systemd would.
  Result<void> start_again() { return process_->start(); }

 private:
  explicit VaultProcess(Options options) : options_(std::move(options)) {}
  Result<void> write_config() const;

  Options options_;
  std::string name_;
  std::filesystem::path config_;
  std::filesystem::path socket_;
  std::unique_ptr<ListeningProcess> process_;  // Killed after the client is gone.
  std::unique_ptr<hsm::VaultClient> client_;
};

}  // namespace coffer::tests
