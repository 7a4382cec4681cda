// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/worker_service.h"

#include <unistd.h>

#include <chrono>
#include <utility>

#include "agent/reader/header_batch.h"
#include "agent/worker/file_systems.h"
#include "agent/worker/header_writer.h"

namespace coffer::agent {
namespace {

constexpr std::size_t kHandlerThreads = 16;
constexpr std::uint32_t kTimeoutMsMax = 600'000;

// Every request starts with how long its sender waits for the answer.
Deadline get_deadline(ByteReader& in) {
  return Deadline::after(std::chrono::milliseconds(std::min(in.u32(), kTimeoutMsMax)));
}

Result<void> end(const ByteReader& in) {
  return in.finish(Reason::kMessageInvalid, "a request");
}

// The list that travels beside the body.
template <class T>
Result<std::vector<T>> list_of(const ipc::Request& request, std::size_t count_max,
                               T (*get)(ByteReader&)) {
  if (request.fds.size() != 1) return fail(Reason::kMessageInvalid, "the list is missing");
  const auto bytes = read_sealed_memfd(request.fds.front().get(), kListBytesMax);
  if (!bytes) return tl::unexpected(bytes.error());
  return decode_list<T>(*bytes, count_max, get);
}

Result<ipc::Reply> reply_list(const Bytes& list) {
  auto memfd = sealed_memfd_of("coffer-list", list);
  if (!memfd) return tl::unexpected(memfd.error());
  ipc::Reply reply;
  reply.fds.push_back(std::move(*memfd));
  return reply;
}

template <class T>
Result<ipc::Reply> reply_with(const T& value) {
  ByteWriter out;
  put(out, value);
  ipc::Reply reply;
  reply.body = out.take();
  return reply;
}

std::vector<uid_t> or_own(std::vector<uid_t> users) {
  if (users.empty()) users.push_back(::getuid());
  return users;
}

ipc::Client::Options reader_options(std::function<Result<UniqueFd>(Deadline)> connect) {
  ipc::Client::Options options;
  options.peer = "coffer-reader";
  options.connect = std::move(connect);
  options.lost = Reason::kReaderLost;
  return options;
}

std::unique_ptr<BatchReader> or_default(std::unique_ptr<BatchReader> reader) {
  return reader ? std::move(reader) : make_batch_reader();
}

}  // namespace

WorkerService::WorkerService(Options options)
    : reader_(reader_options(std::move(options.connect_reader))),
      devices_(system_clock()),
      tickets_(system_clock()),
      mappings_(std::move(options.mark_folder), std::move(options.device_mapper)),
      scanner_(or_default(std::move(options.batch_reader)), reader_, options.jobs.files),
      jobs_(options.jobs, tickets_, mappings_),
      token_writer_(options.jobs.program),
      deliver_(or_own(options.vault_users),
               [this](hsm::Delivery delivery) { return jobs_.take(std::move(delivery)); }) {
  ipc::Server::Options control;
  control.name = "worker control";
  control.peers = or_own(options.agent_users);
  control.handler_threads = kHandlerThreads;
  control.on_fault = std::move(options.on_fault);
  control.on_disconnected = [this](std::uint64_t connection) {
    tickets_.drop_connection(connection);
    devices_.release_connection(connection);
  };
  control_ = std::make_unique<ipc::Server>(
      std::move(control), [this](ipc::Request& request) { return answer(request); });
}

WorkerService::~WorkerService() {
  stop();
}

void WorkerService::stop() {
  tickets_.stop();
  control_->stop();
  deliver_.stop();
  jobs_.stop();
  reader_.stop();
}

Result<std::vector<Mapping>> WorkerService::clean_up() {
  auto cleaned = mappings_.clean();
  mappings_.unmark_stale();
  const auto probes = mappings_.clean_probes();
  if (!cleaned) return cleaned;
  if (!probes) return tl::unexpected(probes.error());
  for (const auto& name : *probes) {
    Mapping probe;
    probe.name = name;
    probe.state = MappingState::kNoTable;
    cleaned->push_back(std::move(probe));
  }
  return cleaned;
}

void WorkerService::tick() {
  tickets_.expire();
  devices_.release_expired();
}

Result<ipc::Reply> WorkerService::answer(ipc::Request& request) {
  switch (static_cast<WorkerRequest>(request.type)) {
    case WorkerRequest::kScan:
      return scan(request);
    case WorkerRequest::kRelease:
      return release(request);
    case WorkerRequest::kExpect:
      return expect(request);
    case WorkerRequest::kWait:
      return wait(request);
    case WorkerRequest::kCancel:
      return give_up(request);
    case WorkerRequest::kListMappings:
      return mappings(false);
    case WorkerRequest::kDeactivate:
      return deactivate(request);
    case WorkerRequest::kCleanMappings:
      return mappings(true);
    case WorkerRequest::kCheckEmpty:
      return check_empty(request);
    case WorkerRequest::kBuildHeader:
      return build_header(request);
    case WorkerRequest::kWriteHeader:
      return write_header(request);
    case WorkerRequest::kCheckWritten:
      return printed(request, false);
    case WorkerRequest::kWipeHeader:
      return printed(request, true);
    case WorkerRequest::kMakeFileSystem:
      return make_file_system(request);
    case WorkerRequest::kReplaceToken:
      return replace_token(request);
  }
  return fail(Reason::kMessageInvalid, "the worker knows no such request");
}

Result<ipc::Reply> WorkerService::scan(const ipc::Request& request) {
  ByteReader in(request.body);
  const auto deadline = get_deadline(in);
  if (const auto good = end(in); !good) return tl::unexpected(good.error());
  const auto items = list_of<ScanItem>(request, kScanItemsMax, get_scan_item);
  if (!items) return tl::unexpected(items.error());

  std::vector<Result<ScannedDevice>> results;
  for (auto& one : scanner_.scan(*items, deadline)) {
    if (!one) {
      results.emplace_back(tl::unexpected(one.error()));
      continue;
    }
    const auto handle = devices_.add(one->held, request.connection);
    if (!handle) {
      results.emplace_back(tl::unexpected(handle.error()));
      continue;
    }
    ScannedDevice scanned;
    scanned.handle = *handle;
    scanned.device = one->held->device.identity;
    if (one->held->header_device) scanned.header_device = one->held->header_device->identity;
    scanned.header_sha256 = one->header_sha256;
    scanned.header = std::move(one->header);
    results.emplace_back(std::move(scanned));
  }
  return reply_list(encode_list(std::span<const Result<ScannedDevice>>(results)));
}

Result<ipc::Reply> WorkerService::release(const ipc::Request& request) {
  ByteReader in(request.body);
  get_deadline(in);
  std::vector<DeviceHandle> handles(in.count(kReleaseMax, sizeof(DeviceHandle)));
  for (auto& handle : handles) handle = in.u64();
  if (const auto good = end(in); !good) return tl::unexpected(good.error());
  devices_.release(handles, request.connection);
  return ipc::Reply{};
}

Result<KeyJob> WorkerService::accept_key(const keyring::Ticket& ticket, ExpectedKey spec,
                                         std::uint64_t connection) {
  auto device = devices_.find(spec.handle, connection);
  if (!device) return tl::unexpected(device.error());
  const auto& node = (*device)->device.identity.node;
  if (spec.action == Action::kFormat) {
    if (const auto room = require_room(**device, spec.profile); !room)
      return tl::unexpected(room.error());
  } else if (!(*device)->header) {
    return fail(Reason::kDeviceChanged, "no good header was read from " + node);
  } else if (const auto pinned = require_pinned(*(*device)->header, spec.profile); !pinned) {
    return pass(pinned.error(), node);
  }
  if (spec.action == Action::kActivate && !is_mapping_name(spec.mapping))
    return fail(Reason::kInvalidArgs, "not a name for a mapping");
  return KeyJob{ticket, std::move(spec), std::move(*device)};
}

Result<ipc::Reply> WorkerService::expect(const ipc::Request& request) {
  ByteReader in(request.body);
  const auto deadline = get_deadline(in);
  const auto ticket = get_ticket(in);
  if (const auto good = end(in); !good) return tl::unexpected(good.error());
  auto keys = list_of<ExpectedKey>(request, kExpectItemsMax, get_expected);
  if (!keys) return tl::unexpected(keys.error());
  std::vector<KeyJob> jobs;
  for (auto& key : *keys) {
    auto job = accept_key(ticket, std::move(key), request.connection);
    if (!job) return tl::unexpected(job.error());
    jobs.push_back(std::move(*job));
  }
  const auto added = tickets_.add(ticket, request.connection, deadline, std::move(jobs));
  if (!added) return tl::unexpected(added.error());
  return ipc::Reply{};
}

Result<ipc::Reply> WorkerService::wait(const ipc::Request& request) {
  ByteReader in(request.body);
  const auto deadline = get_deadline(in);
  const auto ticket = get_ticket(in);
  const auto seen = in.u32();
  if (const auto good = end(in); !good) return tl::unexpected(good.error());
  const auto slice = Deadline::after(kWaitSlice);
  const auto reply = tickets_.wait(ticket, request.connection, seen,
                                   deadline.at() < slice.at() ? deadline : slice);
  if (!reply) return tl::unexpected(reply.error());
  return reply_with(*reply);
}

Result<ipc::Reply> WorkerService::give_up(const ipc::Request& request) {
  ByteReader in(request.body);
  get_deadline(in);
  const auto ticket = get_ticket(in);
  if (const auto good = end(in); !good) return tl::unexpected(good.error());
  tickets_.cancel(ticket, request.connection);
  return ipc::Reply{};
}

Result<ipc::Reply> WorkerService::mappings(bool clean) {
  const auto found = clean ? mappings_.clean() : mappings_.list();
  if (!found) return tl::unexpected(found.error());
  return reply_list(encode_list(std::span<const Mapping>(*found)));
}

Result<ipc::Reply> WorkerService::deactivate(const ipc::Request& request) {
  ByteReader in(request.body);
  const auto deadline = get_deadline(in);
  const auto name = in.text(kMappingNameBytesMax);
  const auto volume = get_volume(in);
  const auto mode = in.u8();
  if (mode < 1 || mode > 3) in.reject();
  if (const auto good = end(in); !good) return tl::unexpected(good.error());
  if (!is_mapping_name(name)) return fail(Reason::kInvalidArgs, "not a name of a mapping");
  const auto done =
      mappings_.deactivate(name, *volume, static_cast<DeactivateMode>(mode), deadline);
  if (!done) return tl::unexpected(done.error());
  return ipc::Reply{};
}

Result<ipc::Reply> WorkerService::check_empty(const ipc::Request& request) {
  ByteReader in(request.body);
  get_deadline(in);
  const auto handle = in.u64();
  if (const auto good = end(in); !good) return tl::unexpected(good.error());
  const auto device = devices_.find(handle, request.connection);
  if (!device) return tl::unexpected(device.error());
  const auto seen = look_for_data(**device);
  if (!seen) return tl::unexpected(seen.error());
  return reply_with(*seen);
}

Result<ipc::Reply> WorkerService::build_header(const ipc::Request& request) {
  ByteReader in(request.body);
  const auto deadline = get_deadline(in);
  const auto ticket = get_ticket(in);
  const auto index = in.u32();
  const auto label = in.text(kTextBytesMax);
  const auto token = in.text(luks2::kTokenJsonBytesMax);
  if (const auto good = end(in); !good) return tl::unexpected(good.error());
  const auto kept = tickets_.kept(ticket, index, request.connection);
  if (!kept) return tl::unexpected(kept.error());
  const auto built = jobs_.build_header(*kept, label, token, deadline);
  if (!built) return tl::unexpected(built.error());
  return reply_with(*built);
}

Result<ipc::Reply> WorkerService::write_header(const ipc::Request& request) {
  ByteReader in(request.body);
  get_deadline(in);
  const auto ticket = get_ticket(in);
  const auto index = in.u32();
  const auto confirmation = in.text(kTextBytesMax);
  if (const auto good = end(in); !good) return tl::unexpected(good.error());
  const auto kept = tickets_.kept(ticket, index, request.connection);
  if (!kept) return tl::unexpected(kept.error());
  const auto written = jobs_.write_header(*kept, confirmation);
  if (!written) return tl::unexpected(written.error());
  return ipc::Reply{};
}

Result<ipc::Reply> WorkerService::printed(const ipc::Request& request, bool wipe) {
  ByteReader in(request.body);
  get_deadline(in);
  const auto handle = in.u64();
  const auto bytes = in.bytes(kHeaderPrintBytesMax);
  const HeaderPrint print(bytes.begin(), bytes.end());
  if (const auto good = end(in); !good) return tl::unexpected(good.error());
  const auto device = devices_.find(handle, request.connection);
  if (!device) return tl::unexpected(device.error());
  const auto& where = (*device)->where_header_is();
  // What check_written() finds decides what becomes of the volume: nobody may write meanwhile.
  Result<UniqueFd> held = UniqueFd();
  if (!wipe) held = open_exclusively(where, Access::kRead);
  if (!held) return tl::unexpected(held.error());
  const auto presence = find_printed(where.fd.get(), print);
  if (!presence) return tl::unexpected(presence.error());
  // Where nothing of ours stands, the device is not even opened for writing.
  if (wipe && *presence != HeaderPresence::kNone) {
    const auto fd = open_exclusively(where);
    if (!fd) return tl::unexpected(fd.error());
    if (const auto wiped = wipe_printed(fd->get(), print); !wiped)
      return tl::unexpected(wiped.error());
  }
  ipc::Reply reply;
  reply.body = ByteWriter().u8(static_cast<std::uint8_t>(*presence)).take();
  return reply;
}

Result<ipc::Reply> WorkerService::replace_token(const ipc::Request& request) {
  ByteReader in(request.body);
  const auto deadline = get_deadline(in);
  const auto handle = in.u64();
  const auto token = in.text(luks2::kTokenJsonBytesMax);
  if (const auto good = end(in); !good) return tl::unexpected(good.error());
  const auto device = devices_.find(handle, request.connection);
  if (!device) return tl::unexpected(device.error());
  const auto replaced = token_writer_.replace(**device, token, deadline);
  if (!replaced) return tl::unexpected(replaced.error());
  return ipc::Reply{};
}

Result<ipc::Reply> WorkerService::make_file_system(const ipc::Request& request) {
  ByteReader in(request.body);
  const auto deadline = get_deadline(in);
  const auto name = in.text(kMappingNameBytesMax);
  const auto volume = get_volume(in);
  const auto type = in.text(kTextBytesMax);
  const auto label = in.text(kTextBytesMax);
  if (const auto good = end(in); !good) return tl::unexpected(good.error());
  const auto mapping = mappings_.await_unused(name, *volume, deadline);
  if (!mapping) return tl::unexpected(mapping.error());
  const auto made = make_file_system_on("/dev/" + mapping->node, type, label, deadline);
  if (!made) return tl::unexpected(made.error());
  return ipc::Reply{};
}

}  // namespace coffer::agent
