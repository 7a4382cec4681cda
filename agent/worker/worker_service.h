// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/worker/delivery_server.h"
#include "agent/worker/header_scanner.h"
#include "agent/worker/key_jobs.h"
#include "agent/worker/token_writer.h"
#include "agent/worker/worker_protocol.h"
#include "core/ipc/client.h"
#include "core/ipc/event_loop.h"
#include "core/ipc/server.h"

namespace coffer::agent {

// WorkerService is coffer-worker without its process: it answers cofferd, takes keys from the
// vault, and asks the reader. Tests run it on socket pairs.
//
// Thread-safe. Requests run on threads of the server; keys on those of KeyJobs.
class WorkerService {
 public:
  struct Options {
    std::vector<uid_t> agent_users;  // Who may ask. Empty: this process's own user.
    std::vector<uid_t> vault_users;  // Who may deliver. Empty: the same.
    std::function<Result<UniqueFd>(Deadline)> connect_reader;
    std::string mark_folder = "/run/coffer/dm";
    Mappings::OpenControl device_mapper = DmControl::open;
    KeyJobs::Options jobs;
    std::unique_ptr<BatchReader> batch_reader;  // Null: make_batch_reader().
    std::function<void(const Error&)> on_fault;
  };

  explicit WorkerService(Options options);
  ~WorkerService();  // stop()
  WorkerService(const WorkerService&) = delete;
  WorkerService& operator=(const WorkerService&) = delete;

  Result<void> listen_control(UniqueFd listening) { return control_->listen(std::move(listening)); }
  Result<void> serve_control(UniqueFd connected) { return control_->serve(std::move(connected)); }
  Result<void> listen_deliver(UniqueFd listening) { return deliver_.listen(std::move(listening)); }
  Result<void> serve_deliver(UniqueFd connected) { return deliver_.serve(std::move(connected)); }

  // Takes away what an earlier, killed worker left. Gives what it was. Before it listens.
  Result<std::vector<Mapping>> clean_up();

  // Ends leases and tickets whose time has come: to be called every now and then.
  void tick();

  // Takes nothing new and lets what has begun finish. Closes no mapping.
  void stop();

 private:
  Result<ipc::Reply> answer(ipc::Request& request);
  Result<ipc::Reply> scan(const ipc::Request& request);
  Result<ipc::Reply> expect(const ipc::Request& request);
  Result<ipc::Reply> wait(const ipc::Request& request);
  Result<ipc::Reply> give_up(const ipc::Request& request);
  Result<ipc::Reply> release(const ipc::Request& request);
  Result<ipc::Reply> mappings(bool clean);
  Result<ipc::Reply> deactivate(const ipc::Request& request);
  Result<ipc::Reply> check_empty(const ipc::Request& request);
  Result<ipc::Reply> build_header(const ipc::Request& request);
  Result<ipc::Reply> write_header(const ipc::Request& request);
  Result<ipc::Reply> printed(const ipc::Request& request, bool wipe);
  Result<ipc::Reply> replace_token(const ipc::Request& request);
  Result<ipc::Reply> make_file_system(const ipc::Request& request);
  Result<KeyJob> accept_key(const keyring::Ticket& ticket, ExpectedKey spec,
                            std::uint64_t connection);

  ipc::Client reader_;
  DeviceTable devices_;
  TicketTable tickets_;
  Mappings mappings_;
  HeaderScanner scanner_;
  KeyJobs jobs_;
  TokenWriter token_writer_;
  DeliveryServer deliver_;
  std::unique_ptr<ipc::Server> control_;
};

}  // namespace coffer::agent
