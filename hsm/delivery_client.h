// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <mutex>
#include <string>

#include "core/ipc/channel.h"
#include "core/keyring/key_vault.h"

namespace coffer::hsm {

// DeliveryClient brings DEKs to the worker over its socket `deliver`, one at a time. It connects
// when the first one is to be delivered, and again when the worker was started anew.
//
// Thread-safe; each call waits for its turn and the worker's answer, at most `timeout` and never
// beyond its deadline.
class DeliveryClient final : public keyring::DekSink {
 public:
  struct Options {
    std::string socket_path;
    std::chrono::milliseconds timeout{4000};
  };
  explicit DeliveryClient(Options options) : options_(std::move(options)) {}

  //   kWorkerLost      it cannot be reached, went away, or did not answer. It may have the key.
  //   kTicketUnknown and other answers of the worker.
  Result<void> deliver(const keyring::Ticket& ticket, std::uint32_t index,
                       const keyring::DekLabel& label, const SecretBytes& dek,
                       Deadline deadline) override;

 private:
  Result<void> send(const SecretBytes& packet, Deadline deadline);

  const Options options_;
  std::timed_mutex mutex_;  // Guards channel_: one delivery and its answer at a time.
  ipc::Channel channel_;
};

}  // namespace coffer::hsm
