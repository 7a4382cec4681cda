// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/dbus/bus_client.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "core/base/clock.h"

namespace coffer::tests {
namespace {

extern "C" char** environ;

struct Waiting {
  std::shared_ptr<Answer> into;
};

int on_answer(sd_bus_message* message, void* userdata, sd_bus_error*) noexcept {
  auto* waiting = static_cast<Waiting*>(userdata);
  auto& answer = *waiting->into;
  if (const auto* error = ::sd_bus_message_get_error(message); error != nullptr) {
    answer.error = error->name;
    answer.text = error->message != nullptr ? error->message : "";
  }
  answer.message.reset(::sd_bus_message_ref(message), ::sd_bus_message_unref);
  return 1;
}

void destroy_waiting(void* userdata) noexcept {
  delete static_cast<Waiting*>(userdata);
}

}  // namespace

std::string Answer::path() const {
  const char* path = nullptr;
  if (!ok() || ::sd_bus_message_read(message.get(), "o", &path) < 0) return {};
  return path;
}

bool run_until(ipc::EventLoop& loop, const std::function<bool()>& done, std::chrono::seconds wait) {
  const auto deadline = Deadline::after(wait);
  while (!done()) {
    if (deadline.passed()) return false;
    if (!loop.run_once(std::min(deadline.left(), std::chrono::milliseconds(200)))) return false;
  }
  return true;
}

BusClient::BusClient(ipc::EventLoop& loop, const std::string& address)
    : BusClient(loop, address, ::geteuid()) {}

BusClient::BusClient(ipc::EventLoop& loop, const std::string& address, uid_t uid) : loop_(loop) {
  sd_bus* bus = nullptr;
  ::sd_bus_new(&bus);
  bus_.reset(bus);
  ::sd_bus_set_address(bus, address.c_str());
  ::sd_bus_set_bus_client(bus, 1);
  // The bus takes the user from the socket, as of the moment it is connected.
  const uid_t own = ::geteuid();
  if (uid != own && ::seteuid(uid) != 0) {
    bus_.reset();
    return;
  }
  const int r = ::sd_bus_start(bus);
  if (uid != own && ::seteuid(own) != 0) ::abort();
  if (r < 0) {
    bus_.reset();
    return;
  }
  ::sd_bus_attach_event(bus, loop_.handle(), SD_EVENT_PRIORITY_NORMAL);
  run_until(loop_, [bus] { return ::sd_bus_is_ready(bus) != 0; });
}

BusClient::~BusClient() {
  leave();
}

void BusClient::leave() {
  if (!bus_) return;
  ::sd_bus_detach_event(bus_.get());
  ::sd_bus_close(bus_.get());
  bus_.reset();
}

std::string BusClient::unique_name() const {
  const char* name = nullptr;
  ::sd_bus_get_unique_name(bus_.get(), &name);
  return name != nullptr ? name : "";
}

void BusClient::start(const std::string& path, const char* interface, const char* member,
                      const Fill& fill, const std::shared_ptr<Answer>& into, bool interactive) {
  sd_bus_message* message = nullptr;
  int r = ::sd_bus_message_new_method_call(bus_.get(), &message, dbus::kBusName, path.c_str(),
                                           interface, member);
  const dbus::MessagePtr call(message);
  if (r >= 0 && fill) r = fill(message);
  if (r >= 0 && interactive) r = ::sd_bus_message_set_allow_interactive_authorization(message, 1);
  sd_bus_slot* slot = nullptr;
  auto* waiting = new Waiting{into};
  if (r >= 0) r = ::sd_bus_call_async(bus_.get(), &slot, message, &on_answer, waiting, 0);
  if (r < 0) {
    delete waiting;
    into->error = "not sent";
    into->text = std::strerror(-r);
    return;
  }
  ::sd_bus_slot_set_destroy_callback(slot, &destroy_waiting);
  ::sd_bus_slot_set_floating(slot, 1);
  ::sd_bus_slot_unref(slot);
}

Answer BusClient::call(const std::string& path, const char* interface, const char* member,
                       const Fill& fill, bool interactive) {
  auto answer = std::make_shared<Answer>();
  start(path, interface, member, fill, answer, interactive);
  if (!run_until(loop_, [&] { return answer->message || !answer->error.empty(); }))
    answer->error = "no answer";
  return *answer;
}

std::string BusClient::text_property(const std::string& path, const char* interface,
                                     const char* name) {
  const auto answer = call(path, "org.freedesktop.DBus.Properties", "Get", [&](auto* m) {
    return ::sd_bus_message_append(m, "ss", interface, name);
  });
  const char* text = nullptr;
  if (!answer.ok() || ::sd_bus_message_read(answer.message.get(), "v", "s", &text) < 0) return {};
  return text;
}

std::uint32_t BusClient::number_property(const std::string& path, const char* interface,
                                         const char* name) {
  const auto answer = call(path, "org.freedesktop.DBus.Properties", "Get", [&](auto* m) {
    return ::sd_bus_message_append(m, "ss", interface, name);
  });
  std::uint32_t number = UINT32_MAX;
  if (answer.ok()) ::sd_bus_message_read(answer.message.get(), "v", "u", &number);
  return number;
}

int BusClient::on_signal(sd_bus_message* signal, void* userdata, sd_bus_error*) noexcept {
  std::string line = ::sd_bus_message_get_member(signal);
  line.append(" ").append(::sd_bus_message_get_path(signal));
  auto& self = *static_cast<BusClient*>(userdata);
  self.heard_.push_back(std::move(line));
  if (::sd_bus_message_is_signal(signal, nullptr, "PropertiesChanged") > 0) {
    const char* name = nullptr;
    ::sd_bus_message_skip(signal, "s");
    ::sd_bus_message_enter_container(signal, SD_BUS_TYPE_ARRAY, "{sv}");
    while (::sd_bus_message_enter_container(signal, SD_BUS_TYPE_DICT_ENTRY, "sv") > 0) {
      if (::sd_bus_message_read(signal, "s", &name) > 0) self.changed_properties_.insert(name);
      ::sd_bus_message_skip(signal, "v");
      ::sd_bus_message_exit_container(signal);
    }
  }
  return 0;
}

void BusClient::listen(const char* interface) {
  std::string match = "type='signal',interface='";
  match.append(interface).append("',sender='").append(dbus::kBusName).append("'");
  ::sd_bus_add_match_async(
      bus_.get(), nullptr, match.c_str(), &BusClient::on_signal,
      [](sd_bus_message*, void*, sd_bus_error*) noexcept { return 1; }, this);
  // The bus works in order: when it has answered this, the match stands.
  auto answer = std::make_shared<Answer>();
  start(dbus::kRootPath, "org.freedesktop.DBus.Peer", "Ping", {}, answer);
  run_until(loop_, [&] { return answer->message != nullptr; });
}

BusClient::Fill specs(const std::vector<std::string>& names) {
  return [names](sd_bus_message* m) {
    int r = ::sd_bus_message_open_container(m, 'a', "s");
    for (const auto& name : names) {
      if (r >= 0) r = ::sd_bus_message_append(m, "s", name.c_str());
    }
    if (r >= 0) r = ::sd_bus_message_close_container(m);
    return r < 0 ? r : no_options(m);
  };
}

CommandResult run_command(ipc::EventLoop& loop, const std::vector<std::string>& words,
                          std::chrono::seconds wait, const OnErr& on_err) {
  CommandResult result;
  int out[2];
  int err[2];
  if (::pipe2(out, O_CLOEXEC) != 0 || ::pipe2(err, O_CLOEXEC) != 0) return result;
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  ::posix_spawn_file_actions_adddup2(&actions, err[1], 2);
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  pid_t child = -1;
  const int r = ::posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(out[1]);
  ::close(err[1]);

  const auto drain = [](int fd, std::string& into, bool& open) {
    char buffer[4096];
    const auto n = ::read(fd, buffer, sizeof(buffer));
    if (n <= 0)
      open = false;
    else
      into.append(buffer, static_cast<std::size_t>(n));
  };
  bool out_open = r == 0;
  bool err_open = r == 0;
  if (r == 0) {
    ipc::EventSource watch_out;
    ipc::EventSource watch_err;
    watch_out = std::move(*loop.watch(out[0], EPOLLIN, [&](std::uint32_t) {
      drain(out[0], result.out, out_open);
      if (!out_open) watch_out = {};
    }));
    watch_err = std::move(*loop.watch(err[0], EPOLLIN, [&](std::uint32_t) {
      drain(err[0], result.err, err_open);
      if (on_err && err_open) on_err(child, result.err);
      if (!err_open) watch_err = {};
    }));
    if (!run_until(loop, [&] { return !out_open && !err_open; }, wait)) ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  ::close(out[0]);
  ::close(err[0]);
  return result;
}

}  // namespace coffer::tests
