// SPDX-License-Identifier: Apache-2.0
#include "tests/support/vault_process.h"

#include <cstdlib>

#include "core/base/files.h"
#include "core/ipc/channel.h"
#include "core/ipc/sockets.h"
#include "hsm/delivery_protocol.h"
#include "tests/support/paths.h"

namespace coffer::tests {
namespace {

// One number per object made in this program, for names of sockets.
int next_number() {
  static std::atomic<int> number{0};
  return ++number;
}

}  // namespace

DeliverySocket::DeliverySocket(const std::filesystem::path& folder, keyring::DekSink& sink)
    : sink_(sink), path_((folder / ("deliver-" + std::to_string(next_number()))).string()) {
  auto listening = ipc::listen_at(path_);
  if (!listening) std::abort();
  listening_ = std::move(*listening);
  thread_ = std::thread([this] { listen(); });
}

DeliverySocket::~DeliverySocket() {
  stopping_ = true;
  thread_.join();
}

void DeliverySocket::listen() {
  std::vector<std::thread> connections;
  while (!stopping_) {
    auto connected =
        ipc::accept_from(listening_.get(), Deadline::after(std::chrono::milliseconds(50)));
    if (!connected) continue;
    ++open_;
    connections.emplace_back([this, fd = connected->release(), epoch = epoch_.load()] {
      serve(fd, epoch);
      --open_;
      open_.notify_all();
    });
  }
  for (auto& thread : connections) thread.join();
}

void DeliverySocket::drop_connections() {
  ++epoch_;
  for (int open = open_; open != 0; open = open_) open_.wait(open);
}

void DeliverySocket::serve(int fd, int epoch) {
  ipc::Channel channel{UniqueFd(fd), Reason::kHsmAbsent};
  while (!stopping_ && epoch == epoch_) {
    const auto packet = channel.receive_secret(Deadline::after(std::chrono::milliseconds(50)));
    if (!packet && packet.error().reason() == Reason::kTimedOut) continue;
    if (!packet) return;
    const auto delivery = hsm::decode_delivery(packet->bytes.reveal());
    const auto outcome =
        delivery ? sink_.deliver(delivery->ticket, delivery->index, delivery->label, delivery->key,
                                 Deadline::after(std::chrono::seconds(5)))
                 : Result<void>(tl::unexpected(delivery.error()));
    const auto sent = channel.send(hsm::encode_delivery_reply(outcome), {},
                                   Deadline::after(std::chrono::seconds(5)));
    if (!sent) return;
  }
}

Result<std::unique_ptr<VaultProcess>> VaultProcess::start(const Options& options) {
  std::unique_ptr<VaultProcess> process(new VaultProcess(options));
  const auto folder = options.folder != nullptr ? options.folder->path() : options.files;
  process->name_ = "vault-" + std::to_string(next_number());
  process->config_ = folder / (process->name_ + ".toml");
  process->socket_ = folder / (process->name_ + ".sock");
  if (const auto written = process->write_config(); !written)
    return tl::unexpected(written.error());
  process->process_ = std::make_unique<ListeningProcess>(
      std::vector<std::string>{(bin_dir() / "coffer-vault").string(), "--config",
                               process->config_.string(), "--socket", process->socket_.string(),
                               "--deliver", options.deliver_socket},
      process->socket_.string());
  if (const auto started = process->start_again(); !started) return tl::unexpected(started.error());
  hsm::VaultClient::Options client;
  client.name = process->name_;
  client.socket_path = process->socket_.string();
  client.call_timeout = options.call_timeout;
  process->client_ = std::make_unique<hsm::VaultClient>(std::move(client));
  return process;
}

Result<void> VaultProcess::write_config() const {
  if (options_.config)
    return write_file_durably(config_.string(), as_bytes(options_.config->to_text()));
  hsm::VaultConfig config;
  config.module_path = options_.module_path.empty() ? softhsm_module_path() : options_.module_path;
  config.uri_text = "pkcs11:token=" + options_.label;
  config.state_folder = (options_.folder->path() / (options_.label + ".state")).string();
  config.pin_file = options_.folder->pin_file(options_.label).string();
  config.softhsm_conf = options_.folder->config().string();
  config.call_deadline = options_.call_deadline;
  std::filesystem::create_directory(config.state_folder);
  return write_file_durably(config_.string(), as_bytes(config.to_text()));
}

}  // namespace coffer::tests
