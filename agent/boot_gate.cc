// SPDX-License-Identifier: Apache-2.0
#include "agent/boot_gate.h"

#include <unistd.h>

#include <algorithm>
#include <future>

namespace coffer::agent {
namespace {

constexpr std::chrono::seconds kAskTimeout{2};

ipc::Server::Options server_options() {
  ipc::Server::Options options;
  options.name = "cofferd boot";
  options.peers = {0, ::getuid()};
  options.handler_threads = 4;
  return options;
}

}  // namespace

BootGate::BootGate(ipc::EventLoop& loop, std::function<BootStatus()> status,
                   std::chrono::milliseconds deadline)
    : loop_(loop),
      status_(std::make_shared<std::function<BootStatus()>>(std::move(status))),
      deadline_(deadline),
      server_(server_options(), [this](ipc::Request& request) { return answer(request); }) {}

BootGate::~BootGate() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  server_.stop();
}

void BootGate::finish() {
  {
    const std::scoped_lock lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
}

void BootGate::refuse(const Error& why) {
  {
    const std::scoped_lock lock(mutex_);
    refusal_ = why;
  }
  changed_.notify_all();
}

Result<ipc::Reply> BootGate::answer(const ipc::Request& request) {
  if (request.type != ipc::kTypeBootWait) {
    return fail(Reason::kMessageInvalid, "not a request of boot.sock");
  }
  const auto asked = ipc::decode_boot_request(request.body);
  if (!asked) return tl::unexpected(asked.error());
  const auto wait = asked->count() == 0 ? deadline_ : std::min(*asked, deadline_);
  {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, wait, [&] { return over_ || stopping_ || refusal_; });
    if (refusal_) return tl::unexpected(*refusal_);
    if (stopping_) return fail(Reason::kAgentUnreachable, "the agent is stopping");
  }
  const auto status = ask();
  if (!status) return tl::unexpected(status.error());
  ipc::BootReport report = boot_report(*status);
  report.deadline = deadline_;
  ipc::Reply reply;
  reply.body = ipc::encode_boot_report(report);
  return reply;
}

Result<BootStatus> BootGate::ask() {
  auto promise = std::make_shared<std::promise<BootStatus>>();
  auto future = promise->get_future();
  // The gate may be gone when the task runs: its function is told by the weak pointer.
  const auto posted = loop_.post([promise, weak = std::weak_ptr(status_)] {
    if (const auto status = weak.lock()) promise->set_value((*status)());
  });
  if (!posted) return tl::unexpected(posted.error());
  promise.reset();
  if (future.wait_for(kAskTimeout) != std::future_status::ready) {
    return fail(Reason::kTimedOut, "the agent is busy");
  }
  try {
    return future.get();
  } catch (const std::future_error&) {
    return fail(Reason::kAgentUnreachable, "the agent is stopping");
  }
}

ipc::BootReport boot_report(const BootStatus& status) {
  ipc::BootReport report;
  report.finished = status.finished;
  report.total = static_cast<std::uint32_t>(status.lines.size());
  for (const bool open : {false, true}) {
    for (const BootStatus::Line& line : status.lines) {
      if ((line.state == VolumeState::kUnlocked) != open) continue;
      if (open) ++report.open;
      report.lines.push_back({line.name, std::string(volume_state_name(line.state)), line.text});
    }
  }
  return report;
}

}  // namespace coffer::agent
