// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/dbus/bus_tap.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>

namespace coffer::tests {
namespace {

constexpr const char* kBus = "org.freedesktop.DBus";

// The D-Bus specification, "Message Protocol", little-endian.
class Marshal {
 public:
  Marshal& pad(std::size_t to) {
    while (out_.size() % to != 0) out_ += '\0';
    return *this;
  }
  Marshal& byte(int value) {
    out_ += static_cast<char>(value);
    return *this;
  }
  Marshal& u32(std::uint32_t value) {
    pad(4);
    for (unsigned shift = 0; shift < 32; shift += 8)
      byte(static_cast<int>((value >> shift) & 255U));
    return *this;
  }
  Marshal& text(const std::string& value) {
    u32(static_cast<std::uint32_t>(value.size()));
    out_ += value + '\0';
    return *this;
  }
  // A header field with a signature of one letter.
  Marshal& field(int code, char type, const std::string& value) {
    pad(8).byte(code).byte(1).byte(type).byte(0);
    if (type != 'g') return text(value);
    byte(static_cast<int>(value.size()));
    out_ += value + '\0';
    return *this;
  }
  const std::string& out() const noexcept { return out_; }

 private:
  std::string out_;
};

std::string method_call(std::uint32_t serial, const std::string& interface,
                        const std::string& member, const std::string& signature,
                        const std::string& body) {
  Marshal fields;
  fields.field(1, 'o', "/org/freedesktop/DBus").field(2, 's', interface).field(3, 's', member);
  fields.field(6, 's', kBus);
  if (!signature.empty()) fields.field(8, 'g', signature);
  Marshal head;
  head.byte('l').byte(1).byte(0).byte(1).u32(static_cast<std::uint32_t>(body.size()));
  head.u32(serial).u32(static_cast<std::uint32_t>(fields.out().size()));
  std::string all = head.out() + fields.out();
  while (all.size() % 8 != 0) all += '\0';
  return all + body;
}

}  // namespace

BusTap::BusTap(const std::string& address)
    : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  const std::string path = address.substr(address.find('=') + 1);
  path.copy(to.sun_path, sizeof to.sun_path - 1);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): as connect(2) wants it.
  if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
    problem_ = std::string("connect: ") + std::strerror(errno);
    return;
  }
  std::string uid;
  for (const char digit : std::to_string(::geteuid())) {
    uid += '3';  // In hexadecimal the digits are 30 to 39.
    uid += digit;
  }
  // Two words: no rule, which is all messages, and no flags.
  const std::string everything(8, '\0');
  const bool is_monitor =
      say(std::string(1, '\0') + "AUTH EXTERNAL " + uid + "\r\n") && hear("OK ") &&
      say("NEGOTIATE_UNIX_FD\r\n") && hear("AGREE_UNIX_FD") && say("BEGIN\r\n") &&
      say(method_call(1, kBus, "Hello", "", "")) && hear("NameAcquired") &&
      say(method_call(2, "org.freedesktop.DBus.Monitoring", "BecomeMonitor", "asu", everything)) &&
      hear("NameLost");
  if (!is_monitor && problem_.empty()) problem_ = "not made a monitor: " + bytes_;
}

bool BusTap::say(const std::string& words) {
  return ::send(socket_.get(), words.data(), words.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(words.size());
}

bool BusTap::hear(const std::string& words) {
  constexpr int kWaitMs = 10'000;
  while (!has_seen(words)) {
    pollfd wait{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, kWaitMs) <= 0 || (wait.revents & POLLIN) == 0) return false;
  }
  return true;
}

// By recv(2), which drops descriptors.
const std::string& BusTap::bytes() {
  std::array<char, 65536> some{};
  while (true) {
    const ssize_t got = ::recv(socket_.get(), some.data(), some.size(), MSG_DONTWAIT);
    if (got <= 0) return bytes_;
    bytes_.append(some.data(), static_cast<std::size_t>(got));
  }
}

}  // namespace coffer::tests
