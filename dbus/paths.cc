// SPDX-License-Identifier: Apache-2.0
#include "dbus/paths.h"

#include <systemd/sd-bus.h>

#include <charconv>
#include <cstdlib>
#include <memory>

#include "core/base/unique_fd.h"
#include "dbus/names.h"

namespace coffer::dbus {
namespace {

using CText = CHandle<char, ::free>;

std::string encode(const char* prefix, const std::string& name) {
  char* path = nullptr;
  if (::sd_bus_path_encode(prefix, name.c_str(), &path) < 0) return {};
  return CText(path).get();
}

std::optional<std::string> decode(const char* prefix, const char* path) {
  char* name = nullptr;
  if (::sd_bus_path_decode(path, prefix, &name) <= 0) return std::nullopt;
  std::string text = CText(name).get();
  // Several escapings of one name exist; only ours is an object.
  if (encode(prefix, text) != path) return std::nullopt;
  return text;
}

template <class AnyId>
std::optional<AnyId> decode_id(const char* prefix, const char* path) {
  const auto text = decode(prefix, path);
  if (!text) return std::nullopt;
  auto id = AnyId::parse(*text);
  if (!id) return std::nullopt;
  return *id;
}

}  // namespace

std::string volume_path(const VolumeId& id) {
  return encode(kVolumePrefix, id.str());
}
std::string job_path(agent::JobId id) {
  return std::string(kJobPrefix).append("/").append(std::to_string(id));
}
std::string key_path(const CmkId& id) {
  return encode(kKeyPrefix, id.str());
}
std::string provider_path(const std::string& name) {
  return encode(kProviderPrefix, name);
}

std::optional<VolumeId> volume_of_path(const char* path) {
  return decode_id<VolumeId>(kVolumePrefix, path);
}
std::optional<CmkId> key_of_path(const char* path) {
  return decode_id<CmkId>(kKeyPrefix, path);
}
std::optional<std::string> provider_of_path(const char* path) {
  return decode(kProviderPrefix, path);
}
std::optional<agent::JobId> job_of_path(const char* path) {
  // Not by decode(): the escape of a leading digit would make /job/_31 of job 1.
  const std::string_view text = path;
  const std::string prefix = std::string(kJobPrefix).append("/");
  if (!text.starts_with(prefix)) return std::nullopt;
  agent::JobId id = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + prefix.size(), end, id);
  if (parsed.ec != std::errc() || parsed.ptr != end || job_path(id) != text) return std::nullopt;
  return id;
}

}  // namespace coffer::dbus
