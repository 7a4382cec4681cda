// SPDX-License-Identifier: Apache-2.0
#include "dbus/errors.h"

#include <cerrno>
#include <string>
#include <vector>

#include "dbus/message.h"

namespace coffer::dbus {
namespace {

int errno_of(Errc code) {
  switch (code) {
    case Errc::kNotFound:
      return ENOENT;
    case Errc::kPermissionDenied:
      return EACCES;
    case Errc::kInternal:
      return EIO;
    case Errc::kInvalidArgument:
      return EINVAL;
    case Errc::kFailedPrecondition:
      return EPERM;
    case Errc::kUnavailable:
      return EAGAIN;
    case Errc::kResourceExhausted:
      return ENOBUFS;
    case Errc::kCorrupted:
      return EBADMSG;
  }
  return EIO;
}

// sd-bus keeps the pointers, so names and map live as long as the process.
class ErrorMap {
 public:
  ErrorMap() {
    names_.reserve(all_reasons().size());
    for (const auto& info : all_reasons()) {
      names_.push_back(dbus_error_name(info.reason));
      if (!names_.back().starts_with(kDbusErrorPrefix)) continue;
      map_.push_back({.name = names_.back().c_str(), .code = errno_of(info.code)});
    }
    map_.push_back(SD_BUS_ERROR_MAP_END);
    ::sd_bus_error_add_map(map_.data());
  }

 private:
  std::vector<std::string> names_;
  std::vector<sd_bus_error_map> map_;
};

}  // namespace

void register_errors() {
  static const ErrorMap kMap;
}

int reply_error(sd_bus_error* out, const Error& error) {
  return ::sd_bus_error_set(out, dbus_error_name(error.reason()).c_str(),
                            printable_utf8(error.message()).c_str());
}

void send_error(sd_bus_message* call, const Error& error) {
  sd_bus_error filled{};
  reply_error(&filled, error);
  ::sd_bus_reply_method_error(call, &filled);
  ::sd_bus_error_free(&filled);
}

}  // namespace coffer::dbus
