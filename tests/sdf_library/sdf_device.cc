// SPDX-License-Identifier: Apache-2.0
#include "tests/sdf_library/sdf_device.h"

#include <cstdlib>
#include <fstream>
#include <iterator>

namespace coffer::tests::sdf {

SdfDevice& SdfDevice::instance() {
  static auto* device = new SdfDevice;  // Never destroyed: calls may come as the process ends.
  return *device;
}

SdfDevice::SdfDevice()
    : folder_([] {
        const char* path = std::getenv("COFFER_TEST_SDF");
        return path != nullptr ? path : "/nonexistent";
      }()) {}

bool SdfDevice::there() const {
  return std::filesystem::exists(folder_ / "serial");
}

std::string SdfDevice::serial() const {
  std::string out;
  std::ifstream(folder_ / "serial") >> out;
  return out;
}

std::optional<std::vector<std::byte>> SdfDevice::read(const std::string& name,
                                                      std::size_t size_bytes) const {
  std::ifstream file(folder_ / name, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (text.empty() || (size_bytes != 0 && text.size() != size_bytes)) return std::nullopt;
  const auto bytes = std::as_bytes(std::span(text));
  return std::vector<std::byte>(bytes.begin(), bytes.end());
}

std::optional<std::vector<std::byte>> SdfDevice::password(unsigned index) const {
  return read("password-" + std::to_string(index), 0);
}

void* SdfDevice::open_session() {
  const std::scoped_lock lock(mutex_);
  // A number, never used twice, so that a handle of a closed session is never that of another.
  auto* const handle =
      reinterpret_cast<void*>(++last_handle_);  // NOLINT(performance-no-int-to-ptr)
  sessions_.emplace(handle, std::make_shared<Session>());
  return handle;
}

bool SdfDevice::close_session(void* handle) {
  const std::scoped_lock lock(mutex_);
  return sessions_.erase(handle) == 1;
}

std::shared_ptr<Session> SdfDevice::session(void* handle) {
  const std::scoped_lock lock(mutex_);
  const auto found = sessions_.find(handle);
  return found == sessions_.end() ? nullptr : found->second;
}

void SdfDevice::drop_sessions() {
  const std::scoped_lock lock(mutex_);
  sessions_.clear();
}

}  // namespace coffer::tests::sdf
