// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/worker_client.h"

#include <algorithm>
#include <utility>

#include "agent/reader/header_batch.h"
#include "agent/worker/worker_protocol.h"
#include "core/ipc/client.h"
#include "core/ipc/sockets.h"

namespace coffer::agent {
namespace {

// What the answer may take on its way beyond the time that the worker has for it.
constexpr std::chrono::milliseconds kGrace{2000};
constexpr std::chrono::seconds kNoteworthy{5};  // For what nobody waits for.

ipc::Client::Options client_options(WorkerClientOptions options) {
  ipc::Client::Options client;
  client.peer = "coffer-worker";
  client.connect = std::move(options.connect);
  client.lost = Reason::kWorkerLost;
  client.on_connected = std::move(options.on_connected);
  return client;
}

class WorkerClient final : public Worker {
 public:
  explicit WorkerClient(WorkerClientOptions options)
      : client_(client_options(std::move(options))) {}

  Result<std::vector<Result<ScannedDevice>>> scan(std::span<const ScanItem> items,
                                                  Deadline deadline) override {
    if (items.size() > kScanItemsMax)
      return fail(Reason::kLimitsExceeded, "too many devices in one scan");
    const auto reply = ask(WorkerRequest::kScan, start(deadline), encode_list(items), deadline);
    if (!reply) return tl::unexpected(reply.error());
    auto results = list_in<Result<ScannedDevice>>(*reply, kScanItemsMax, get_scanned);
    if (results && results->size() != items.size())
      return fail(Reason::kMessageInvalid, "the worker answered for other devices");
    return results;
  }

  void release(std::span<const DeviceHandle> handles) noexcept override {
    const auto deadline = Deadline::after(kNoteworthy);
    while (!handles.empty()) {
      const auto part = handles.first(std::min(handles.size(), kReleaseMax));
      auto body = start(deadline);
      body.u32(static_cast<std::uint32_t>(part.size()));
      for (const auto handle : part) body.u64(handle);
      if (!ask(WorkerRequest::kRelease, body, deadline)) return;  // They end with the connection.
      handles = handles.subspan(part.size());
    }
  }

  Result<void> expect(const keyring::Ticket& ticket, std::span<const ExpectedKey> keys,
                      Deadline deadline) override {
    if (keys.size() > kExpectItemsMax)
      return fail(Reason::kLimitsExceeded, "too many keys in one ticket");
    auto body = start(deadline);
    put(body, ticket);
    const auto reply = ask(WorkerRequest::kExpect, body, encode_list(keys), deadline);
    if (!reply) return tl::unexpected(reply.error());
    return {};
  }

  Result<void> wait_results(const keyring::Ticket& ticket,
                            const std::function<void(KeyOutcome)>& each,
                            Deadline deadline) override {
    std::uint32_t seen = 0;
    for (;;) {
      if (deadline.passed()) {
        cancel(ticket);
        return fail(Reason::kTimedOut, "the worker was not done in time");
      }
      auto body = start(deadline);
      put(body, ticket);
      body.u32(seen);
      const auto reply = ask(WorkerRequest::kWait, body, deadline);
      if (!reply) return tl::unexpected(reply.error());
      ByteReader in(reply->body);
      auto news = get_wait_reply(in);
      if (const auto good = finish(in); !good) return good;
      seen += static_cast<std::uint32_t>(news.outcomes.size());
      for (auto& outcome : news.outcomes) each(std::move(outcome));
      if (news.finished) return {};
    }
  }

  void cancel(const keyring::Ticket& ticket) noexcept override {
    const auto deadline = Deadline::after(kNoteworthy);
    auto body = start(deadline);
    put(body, ticket);
    // A worker that cannot be told has lost the ticket with the connection.
    static_cast<void>(ask(WorkerRequest::kCancel, body, deadline).has_value());
  }

  Result<std::vector<Mapping>> list_mappings(Deadline deadline) override {
    return mappings(WorkerRequest::kListMappings, deadline);
  }
  Result<std::vector<Mapping>> clean_mappings(Deadline deadline) override {
    return mappings(WorkerRequest::kCleanMappings, deadline);
  }

  Result<void> deactivate(const std::string& mapping, const VolumeId& volume, DeactivateMode mode,
                          Deadline deadline) override {
    auto body = start(deadline);
    body.text(mapping);
    put(body, volume);
    body.u8(static_cast<std::uint8_t>(mode));
    return command(WorkerRequest::kDeactivate, body, deadline);
  }

  Result<Emptiness> check_empty(DeviceHandle handle, Deadline deadline) override {
    const auto reply = ask(WorkerRequest::kCheckEmpty, start(deadline).u64(handle), deadline);
    if (!reply) return tl::unexpected(reply.error());
    ByteReader in(reply->body);
    auto seen = get_emptiness(in);
    if (const auto good = finish(in); !good) return tl::unexpected(good.error());
    return seen;
  }

  Result<BuiltHeader> build_header(const keyring::Ticket& ticket, std::uint32_t index,
                                   const std::string& label, const std::string& token_json,
                                   Deadline deadline) override {
    if (token_json.size() > luks2::kTokenJsonBytesMax)
      return fail(Reason::kTokenSpace, "the token is longer than a header takes");
    auto body = start(deadline);
    put(body, ticket);
    body.u32(index).text(label).text(token_json);
    const auto reply = ask(WorkerRequest::kBuildHeader, body, deadline);
    if (!reply) return tl::unexpected(reply.error());
    ByteReader in(reply->body);
    auto built = get_built(in);
    if (const auto good = finish(in); !good) return tl::unexpected(good.error());
    return built;
  }

  Result<void> write_header(const keyring::Ticket& ticket, std::uint32_t index,
                            const std::string& confirmation, Deadline deadline) override {
    auto body = start(deadline);
    put(body, ticket);
    return command(WorkerRequest::kWriteHeader, body.u32(index).text(confirmation), deadline);
  }

  Result<HeaderPresence> check_written(DeviceHandle handle, const HeaderPrint& print,
                                       Deadline deadline) override {
    return printed(WorkerRequest::kCheckWritten, handle, print, deadline);
  }
  Result<HeaderPresence> wipe_header(DeviceHandle handle, const HeaderPrint& print,
                                     Deadline deadline) override {
    return printed(WorkerRequest::kWipeHeader, handle, print, deadline);
  }

  Result<void> replace_token(DeviceHandle handle, const std::string& token_json,
                             Deadline deadline) override {
    if (token_json.size() > luks2::kTokenJsonBytesMax)
      return fail(Reason::kTokenSpace, "the token is longer than a header takes");
    return command(WorkerRequest::kReplaceToken, start(deadline).u64(handle).text(token_json),
                   deadline);
  }

  Result<void> make_file_system(const std::string& mapping, const VolumeId& volume,
                                const std::string& type, const std::string& label,
                                Deadline deadline) override {
    auto body = start(deadline);
    body.text(mapping);
    put(body, volume);
    return command(WorkerRequest::kMakeFileSystem, body.text(type).text(label), deadline);
  }

 private:
  static ByteWriter start(Deadline deadline) {
    ByteWriter body;
    body.u32(
        static_cast<std::uint32_t>(std::min<std::int64_t>(deadline.left().count(), 0xFFFFFFFF)));
    return body;
  }
  static Result<void> finish(const ByteReader& in) {
    return in.finish(Reason::kMessageInvalid, "the worker's answer");
  }

  Result<ipc::Reply> ask(WorkerRequest request, const ByteWriter& body, std::span<const int> fds,
                         Deadline deadline) {
    // The worker itself ends at the deadline, so its own answer is the better one.
    return client_.call(static_cast<std::uint16_t>(request), body.view(), fds,
                        Deadline(deadline.at() + kGrace));
  }
  Result<ipc::Reply> ask(WorkerRequest request, const ByteWriter& body, Deadline deadline) {
    return ask(request, body, std::span<const int>(), deadline);
  }
  Result<ipc::Reply> ask(WorkerRequest request, const ByteWriter& body, const Bytes& list,
                         Deadline deadline) {
    const auto memfd = sealed_memfd_of("coffer-list", list);
    if (!memfd) return tl::unexpected(memfd.error());
    const int fd = memfd->get();
    return ask(request, body, std::span(&fd, 1), deadline);
  }
  Result<void> command(WorkerRequest request, const ByteWriter& body, Deadline deadline) {
    const auto reply = ask(request, body, deadline);
    if (!reply) return tl::unexpected(reply.error());
    return {};
  }

  template <class T>
  static Result<std::vector<T>> list_in(const ipc::Reply& reply, std::size_t count_max,
                                        T (*get)(ByteReader&)) {
    if (reply.fds.size() != 1) return fail(Reason::kMessageInvalid, "the worker's list is missing");
    const auto bytes = read_sealed_memfd(reply.fds.front().get(), kListBytesMax);
    if (!bytes) return tl::unexpected(bytes.error());
    return decode_list<T>(*bytes, count_max, get);
  }

  Result<std::vector<Mapping>> mappings(WorkerRequest request, Deadline deadline) {
    const auto reply = ask(request, start(deadline), deadline);
    if (!reply) return tl::unexpected(reply.error());
    return list_in<Mapping>(*reply, kMappingsMax, get_mapping);
  }

  Result<HeaderPresence> printed(WorkerRequest request, DeviceHandle handle,
                                 const HeaderPrint& print, Deadline deadline) {
    const auto reply = ask(request, start(deadline).u64(handle).bytes(print), deadline);
    if (!reply) return tl::unexpected(reply.error());
    ByteReader in(reply->body);
    const auto presence = get_presence(in);
    if (const auto good = finish(in); !good) return tl::unexpected(good.error());
    return presence;
  }

  ipc::Client client_;
};

}  // namespace

std::unique_ptr<Worker> make_worker_client(WorkerClientOptions options) {
  return std::make_unique<WorkerClient>(std::move(options));
}

std::unique_ptr<Worker> make_worker_client(const std::string& socket_path) {
  WorkerClientOptions options;
  options.connect = [socket_path](Deadline deadline) {
    return ipc::connect_to(socket_path, deadline);
  };
  return make_worker_client(std::move(options));
}

}  // namespace coffer::agent
