// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/result.h"

namespace coffer {

// A UUID (RFC 9562). parse() takes the lower-case 8-4-4-4-12 form alone, so there is one spelling
// of each and texts may be compared.
class Uuid {
 public:
  static constexpr std::size_t kTextLength = 36;

  static Result<Uuid> parse(std::string_view text);        // kInvalidArgs
  static Result<Uuid> from_bytes(ByteView sixteen_bytes);  // kInvalidArgs
  static Result<Uuid> random();                            // Version 4.
  // Version 7: ascending with `now` down to the microsecond, then random. What is made one after
  // the other stands side by side in an index. Of a time that it cannot carry (before 1970, after
  // 10889) version 4.
  static Result<Uuid> made_at(WallTime now);

  std::string str() const;
  ByteView bytes() const noexcept { return bytes_; }

  friend auto operator<=>(const Uuid&, const Uuid&) = default;

 private:
  void set_version(unsigned version) noexcept;

  std::array<std::byte, 16> bytes_{};
};

// Id makes UUIDs of different things different types, so that two cannot be swapped. An Id that
// exists is valid.
template <class Tag>
class Id {
 public:
  explicit Id(const Uuid& uuid) noexcept : uuid_(uuid) {}

  static Result<Id> parse(std::string_view text) { return wrap(Uuid::parse(text)); }
  static Result<Id> from_bytes(ByteView bytes) { return wrap(Uuid::from_bytes(bytes)); }
  static Result<Id> random() { return wrap(Uuid::random()); }
  static Result<Id> made_at(WallTime now) { return wrap(Uuid::made_at(now)); }

  const Uuid& uuid() const noexcept { return uuid_; }
  std::string str() const { return uuid_.str(); }
  ByteView bytes() const noexcept { return uuid_.bytes(); }

  friend auto operator<=>(const Id&, const Id&) = default;

 private:
  static Result<Id> wrap(const Result<Uuid>& uuid) {
    if (!uuid) return tl::unexpected(uuid.error());
    return Id(*uuid);
  }

  Uuid uuid_;
};

using CmkId = Id<struct CmkIdTag>;        // A customer master key.
using VolumeId = Id<struct VolumeIdTag>;  // A volume; equal to its LUKS UUID.
using HostId = Id<struct HostIdTag>;      // This host, from /etc/coffer/host-id.

}  // namespace coffer

template <class Tag>
struct std::hash<coffer::Id<Tag>> {
  std::size_t operator()(const coffer::Id<Tag>& id) const noexcept {
    return std::hash<std::string_view>()(coffer::as_text(id.bytes()));
  }
};
