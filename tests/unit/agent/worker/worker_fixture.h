// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>

#include "agent/reader/header_batch.h"
#include "agent/worker/worker_client.h"
#include "agent/worker/worker_service.h"
#include "core/base/files.h"
#include "core/crypto/digest.h"
#include "core/ipc/server.h"
#include "core/ipc/sockets.h"
#include "core/luks2/token.h"
#include "tests/support/paths.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::agent {

using tests::FailsWith;
using tests::Succeeds;

inline Deadline soon() {
  return Deadline::after(std::chrono::seconds(30));
}

// A regular file that stands for a device, as long as `size_bytes`.
inline std::string make_device(const std::filesystem::path& path, std::uint64_t size_bytes) {
  std::ofstream(path, std::ios::binary).flush();
  std::filesystem::resize_file(path, size_bytes);
  return path.string();
}

inline crypto::Sha256Digest file_digest(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string all(std::filesystem::file_size(path), '\0');
  in.read(all.data(), static_cast<std::streamsize>(all.size()));
  return crypto::sha256(as_bytes(all));
}

inline void write_at(const std::string& path, std::uint64_t offset, std::string_view bytes) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(write_exactly_at(fd.get(), as_bytes(bytes), static_cast<off_t>(offset)));
}

// A token that the parser takes; what is in it means nothing to the worker.
inline std::string some_token() {
  luks2::Token token;
  token.context = Bytes(64, std::byte{1});
  token.wraps = {Bytes(80, std::byte{2})};
  token.records = {Bytes(120, std::byte{3})};
  return luks2::print_token(token).value();
}

// The worker's service with a reader of its own, on sockets in a folder of the test, over files.
class WorkerFixture : public ::testing::Test {
 protected:
  WorkerFixture() {
    // In the machine the worker under test may be the one that systemd started, in its sandbox.
    if (const auto* sockets = std::getenv("COFFER_TEST_SOCKETS")) {
      sockets_ = sockets;
      worker_ = make_worker_client(socket("worker.sock"));
      return;
    }
    sockets_ = folder_.path();
    ipc::Server::Options reader_options;
    reader_options.name = "reader";
    reader_ = std::make_unique<ipc::Server>(
        reader_options, [](ipc::Request& request) { return answer_as_reader(request); });
    EXPECT_THAT(reader_->listen(ipc::listen_at(socket("reader.sock")).value()), Succeeds());
    start_worker();
    worker_ = make_worker_client(socket("worker.sock"));
  }
  ~WorkerFixture() override {
    worker_.reset();
    service_.reset();
    reader_.reset();
  }

  static Result<ipc::Reply> answer_as_reader(ipc::Request& request) {
    const auto slots = decode_slots(request.body);
    if (!slots) return tl::unexpected(slots.error());
    auto outcomes = check_batch(request.fds.at(0).get(), *slots);
    if (!outcomes) return tl::unexpected(outcomes.error());
    ipc::Reply reply;
    reply.fds.push_back(std::move(*outcomes));
    return reply;
  }

  void start_worker() {
    WorkerService::Options options;
    options.mark_folder = folder_.path().string();
    options.jobs.files = FilesAllowed::kYes;
    options.device_mapper = device_mapper_;
    options.jobs.program = one_shot_program_;
    options.connect_reader = [this](Deadline deadline) {
      return ipc::connect_to(socket("reader.sock"), deadline);
    };
    service_ = std::make_unique<WorkerService>(std::move(options));
    ASSERT_THAT(service_->listen_control(ipc::listen_at(socket("worker.sock")).value()),
                Succeeds());
    ASSERT_THAT(service_->listen_deliver(ipc::listen_at(socket("deliver.sock")).value()),
                Succeeds());
  }

  // A worker that starts `program` for each one-shot. Handles and tickets of the old one are gone.
  void restart_worker(const std::string& program) {
    worker_.reset();
    service_.reset();
    for (const auto* name : {"worker.sock", "deliver.sock"}) std::filesystem::remove(socket(name));
    one_shot_program_ = program;
    start_worker();
    worker_ = make_worker_client(socket("worker.sock"));
  }

  std::string socket(const std::string& name) const { return (sockets_ / name).string(); }
  bool external() const { return service_ == nullptr; }
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }
  std::string device(const std::string& name, std::uint64_t size_mib = 20) const {
    return make_device(folder_.path() / name, size_mib << 20U);
  }

  // What the vault does.
  Result<void> deliver(const keyring::Ticket& ticket, std::uint32_t index,
                       const luks2::Profile& profile, const SecretBytes& key,
                       std::optional<keyring::KeyShares> share = {}) const {
    auto connected = ipc::connect_to(socket("deliver.sock"), soon());
    if (!connected) return tl::unexpected(connected.error());
    ipc::Channel channel(std::move(*connected), Reason::kWorkerLost);
    const keyring::DekLabel label{luks2::profile_digest(profile), share};
    const auto packet = hsm::encode_delivery(ticket, index, label, key);
    if (!packet) return tl::unexpected(packet.error());
    if (const auto sent = channel.send(packet->reveal(), {}, soon()); !sent) return sent;
    const auto reply = channel.receive(soon());
    if (!reply) return tl::unexpected(reply.error());
    return hsm::decode_delivery_reply(reply->bytes);
  }

  ScannedDevice scan_one(const std::string& device, const std::string& header_device = "") {
    const ScanItem item{device, header_device};
    auto results = worker_->scan(std::span(&item, 1), soon());
    EXPECT_THAT(results, Succeeds());
    EXPECT_THAT(results->front(), Succeeds());
    return results->front().value();
  }

  // Announces one key and delivers it; its outcome.
  Result<Activated> use_key(const keyring::Ticket& ticket, const ExpectedKey& expected,
                            const SecretBytes& key) {
    const auto announced = worker_->expect(ticket, std::span(&expected, 1), soon());
    if (!announced) return tl::unexpected(announced.error());
    if (const auto taken = deliver(ticket, expected.index, expected.profile, key); !taken)
      return tl::unexpected(taken.error());
    Result<Activated> end = fail(Reason::kInternal, "no outcome came");
    const auto waited = worker_->wait_results(
        ticket, [&](KeyOutcome outcome) { end = std::move(outcome.result); }, soon());
    if (!waited) return tl::unexpected(waited.error());
    return end;
  }

  // Makes a volume on `device`. Its profile, the key and the ticket under which it was made.
  struct Made {
    luks2::Profile profile;
    SecretBytes key = SecretBytes::random(64).value();
    keyring::Ticket ticket = keyring::draw_ticket().value();
    ScannedDevice scanned;
    Result<BuiltHeader> built = fail(Reason::kInternal, "not built");
  };
  Made build_on(const std::string& device, const std::string& header_device = "") {
    Made made;
    made.profile = new_volume_profile(Uuid::random().value(), !header_device.empty());
    made.scanned = scan_one(device, header_device);
    ExpectedKey expected;
    expected.handle = made.scanned.handle;
    expected.action = Action::kFormat;
    expected.profile = made.profile;
    EXPECT_THAT(use_key(made.ticket, expected, made.key), Succeeds());
    made.built = worker_->build_header(made.ticket, 0, "test volume", some_token(), soon());
    return made;
  }

  Result<Activated> verify(const ScannedDevice& scanned, const luks2::Profile& profile,
                           const SecretBytes& key) {
    ExpectedKey expected;
    expected.handle = scanned.handle;
    expected.action = Action::kVerify;
    expected.profile = profile;
    return use_key(keyring::draw_ticket().value(), expected, key);
  }

  tests::TempDir folder_;
  std::filesystem::path sockets_;
  std::string one_shot_program_ = (tests::bin_dir() / "coffer-worker").string();
  Mappings::OpenControl device_mapper_ = DmControl::open;
  std::unique_ptr<ipc::Server> reader_;
  std::unique_ptr<WorkerService> service_;
  std::unique_ptr<Worker> worker_;
};

}  // namespace coffer::agent
