// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/base/bytes.h"
#include "hsm/sdf_module.h"

namespace coffer::hsm {

// SdfSession is one session of an SDF device, with the session keys that were imported into it:
// the standard promises a key's handle to its own session alone, so each session keeps its own.
//
// A session key is named by its wrapped bytes: SM4, under the session's key encryption key. What a
// call gives is checked against the length it must have (kSdfBadAnswer); other results are the
// library's return values.
//
// Belongs to one thread at a time. Closed when destroyed, and its keys with it.
class SdfSession {
 public:
  static constexpr std::size_t kBlockBytes = 16;
  static constexpr std::size_t kMacBytes = 32;
  static constexpr std::size_t kWrappedBytesMax = 512;
  // Imported keys beyond these push out the one that was unused for longest.
  static constexpr std::size_t kKeysMax = 64;

  using Block = std::array<std::byte, kBlockBytes>;

  SdfSession(const SdfModule& module, sdf::Handle handle, unsigned kek) noexcept
      : module_(module), handle_(handle), kek_(kek) {}
  ~SdfSession();
  SdfSession(const SdfSession&) = delete;
  SdfSession& operator=(const SdfSession&) = delete;

  unsigned long read_info(sdf::DeviceInfo& out);
  unsigned long random(std::span<std::byte> out);

  // Makes a session key, which never is outside the device but wrapped, and proves that it comes
  // back from what is wrapped.
  unsigned long make_key(Bytes& wrapped);

  // SM4 over whole blocks; `out` has the size of `in`. CBC, from `iv`.
  unsigned long encrypt(ByteView wrapped, const Block& iv, ByteView in, std::span<std::byte> out);
  unsigned long decrypt(ByteView wrapped, const Block& iv, ByteView in, std::span<std::byte> out);
  // HMAC-SM3.   kNotSupport: the library has none.
  unsigned long hmac(ByteView wrapped, ByteView message, std::array<std::byte, kMacBytes>& out);

 private:
  template <class... Parameters, class... Arguments>
  unsigned long call(int (*SdfModule::Functions::*function)(Parameters...),
                     Arguments... arguments) {
    return module_.call(function, handle_, arguments...);
  }
  struct Key {
    sdf::Handle handle = nullptr;
    std::uint64_t used = 0;
  };
  unsigned long find_key(ByteView wrapped, sdf::Handle& out);
  unsigned long import_key(ByteView wrapped, sdf::Handle& out);
  unsigned long encrypt_by(sdf::Handle key, const Block& iv, ByteView in, std::span<std::byte> out);

  const SdfModule& module_;
  const sdf::Handle handle_;
  const unsigned kek_;
  std::map<Bytes, Key> keys_;
  std::uint64_t uses_ = 0;
};

// SdfSessions are the sessions of one open device, taken for one piece of work each.
//
// Thread-safe; destroyed while no lease is out.
class SdfSessions {
 public:
  SdfSessions(const SdfModule& module, sdf::Handle device, unsigned kek, std::size_t sessions_max)
      : module_(module), device_(device), kek_(kek), sessions_max_(sessions_max) {}
  SdfSessions(const SdfSessions&) = delete;
  SdfSessions& operator=(const SdfSessions&) = delete;

  // A session that nobody else uses meanwhile. Given back when destroyed; closed instead when
  // spoiled, as a session that failed may have an operation under way.
  class Lease {
   public:
    Lease() = default;
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease();
    SdfSession& session() noexcept { return *session_; }
    void spoil() noexcept { spoilt_ = true; }

   private:
    friend class SdfSessions;
    SdfSessions* pool_ = nullptr;
    std::unique_ptr<SdfSession> session_;
    bool spoilt_ = false;
  };

  // Waits while sessions_max are out; what the library says when it opens no more.
  unsigned long take(Lease& into);
  // Closes those that are not out: one was found lost, so they may be as well.
  void drop_idle();

 private:
  void give_back(std::unique_ptr<SdfSession> session, bool spoilt);

  const SdfModule& module_;
  const sdf::Handle device_;
  const unsigned kek_;
  const std::size_t sessions_max_;

  std::mutex mutex_;  // Guards what follows.
  std::condition_variable returned_;
  std::vector<std::unique_ptr<SdfSession>> idle_;
  std::size_t out_ = 0;
};

}  // namespace coffer::hsm
