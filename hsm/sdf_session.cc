// SPDX-License-Identifier: Apache-2.0
#include "hsm/sdf_session.h"

#include <algorithm>
#include <utility>

#include "hsm/sdf_errors.h"

namespace coffer::hsm {
namespace {

using Functions = SdfModule::Functions;

constexpr unsigned kKeyBits = 128;
// Devices have a limit of their own on what one call takes.
constexpr std::size_t kChunkBytes = 4096;

// Whether what came back can be.
constexpr unsigned long judge(bool good) {
  return good ? 0UL : kSdfBadAnswer;
}

unsigned length(std::size_t size_bytes) {
  return static_cast<unsigned>(size_bytes);
}

}  // namespace

SdfSession::~SdfSession() {
  call(&Functions::close_session);
}

unsigned long SdfSession::read_info(sdf::DeviceInfo& out) {
  return call(&Functions::get_device_info, &out);
}

unsigned long SdfSession::random(std::span<std::byte> out) {
  const auto all = out;
  while (!out.empty()) {
    const auto chunk = out.first(std::min(out.size(), kChunkBytes));
    const auto rv = call(&Functions::generate_random, length(chunk.size()), chunk.data());
    if (rv != sdf::kOk) return rv;
    out = out.subspan(chunk.size());
  }
  // A generator that wrote nothing must not become a key; a true one gives this once in 2^128.
  const bool written = std::ranges::any_of(all, [](std::byte b) { return b != std::byte{0}; });
  return judge(written || all.size() < kBlockBytes);
}

unsigned long SdfSession::make_key(Bytes& wrapped) {
  wrapped.assign(kWrappedBytesMax, std::byte{0});
  unsigned size = 0;
  sdf::Handle made = nullptr;
  auto rv = call(&Functions::generate_key_with_kek, kKeyBits, sdf::kSm4Ecb, kek_, wrapped.data(),
                 &size, &made);
  if (rv != sdf::kOk) return rv;
  const bool sized = size >= kBlockBytes && size <= wrapped.size();
  wrapped.resize(sized ? size : 0);
  Block before{};
  Block after{};
  sdf::Handle back = nullptr;
  rv = sized ? encrypt_by(made, {}, Block{}, before) : kSdfBadAnswer;
  const auto destroyed = call(&Functions::destroy_key, made);
  if (rv == sdf::kOk) rv = destroyed;
  if (rv == sdf::kOk) rv = find_key(wrapped, back);
  if (rv == sdf::kOk) rv = encrypt_by(back, {}, Block{}, after);
  if (rv != sdf::kOk) return rv;
  return judge(before == after && before != Block{});
}

unsigned long SdfSession::import_key(ByteView wrapped, sdf::Handle& out) {
  const auto rv = call(&Functions::import_key_with_kek, sdf::kSm4Ecb, kek_, wrapped.data(),
                       length(wrapped.size()), &out);
  return rv == sdf::kOk && out == nullptr ? kSdfBadAnswer : rv;
}

unsigned long SdfSession::find_key(ByteView wrapped, sdf::Handle& out) {
  Bytes name(wrapped.begin(), wrapped.end());
  if (const auto found = keys_.find(name); found != keys_.end()) {
    found->second.used = ++uses_;
    out = found->second.handle;
    return sdf::kOk;
  }
  if (keys_.size() >= kKeysMax) {
    const auto oldest =
        std::ranges::min_element(keys_, {}, [](const auto& one) { return one.second.used; });
    const auto rv = call(&Functions::destroy_key, oldest->second.handle);
    if (rv != sdf::kOk) return rv;
    keys_.erase(oldest);
  }
  const auto rv = import_key(wrapped, out);
  if (rv == sdf::kOk) keys_.emplace(std::move(name), Key{out, ++uses_});
  return rv;
}

unsigned long SdfSession::encrypt_by(sdf::Handle key, const Block& iv, ByteView in,
                                     std::span<std::byte> out) {
  Block chain = iv;
  unsigned size = 0;
  const auto rv = call(&Functions::encrypt, key, sdf::kSm4Cbc, chain.data(), in.data(),
                       length(in.size()), out.data(), &size);
  if (rv != sdf::kOk) return rv;
  return judge(size == in.size());
}

unsigned long SdfSession::encrypt(ByteView wrapped, const Block& iv, ByteView in,
                                  std::span<std::byte> out) {
  sdf::Handle key = nullptr;
  if (const auto rv = find_key(wrapped, key); rv != sdf::kOk) return rv;
  return encrypt_by(key, iv, in, out);
}

unsigned long SdfSession::decrypt(ByteView wrapped, const Block& iv, ByteView in,
                                  std::span<std::byte> out) {
  sdf::Handle key = nullptr;
  if (const auto rv = find_key(wrapped, key); rv != sdf::kOk) return rv;
  Block chain = iv;
  unsigned size = 0;
  const auto rv = call(&Functions::decrypt, key, sdf::kSm4Cbc, chain.data(), in.data(),
                       length(in.size()), out.data(), &size);
  if (rv != sdf::kOk) return rv;
  return judge(size == in.size());
}

unsigned long SdfSession::hmac(ByteView wrapped, ByteView message,
                               std::array<std::byte, kMacBytes>& out) {
  sdf::Handle key = nullptr;
  if (const auto rv = find_key(wrapped, key); rv != sdf::kOk) return rv;
  if (const auto rv = call(&Functions::hmac_init, key, sdf::kSm3); rv != sdf::kOk) return rv;
  while (!message.empty()) {
    const auto chunk = message.first(std::min(message.size(), kChunkBytes));
    const auto rv = call(&Functions::hmac_update, chunk.data(), length(chunk.size()));
    if (rv != sdf::kOk) return rv;
    message = message.subspan(chunk.size());
  }
  // Room for whatever else it may write: its length is judged below.
  std::array<std::byte, 2 * kMacBytes> mac{};
  unsigned size = 0;
  if (const auto rv = call(&Functions::hmac_final, mac.data(), &size); rv != sdf::kOk) return rv;
  if (size != out.size()) return kSdfBadAnswer;
  std::copy_n(mac.begin(), out.size(), out.begin());
  return sdf::kOk;
}

unsigned long SdfSessions::take(Lease& into) {
  std::unique_lock lock(mutex_);
  for (;;) {
    returned_.wait(lock, [this] { return !idle_.empty() || out_ < sessions_max_; });
    if (!idle_.empty()) {
      into.session_ = std::move(idle_.back());
      idle_.pop_back();
      break;
    }
    sdf::Handle handle = nullptr;
    const auto rv = module_.call(&Functions::open_session, device_, &handle);
    if (rv == sdf::kOk && handle == nullptr) return kSdfBadAnswer;
    if (rv == sdf::kOk) {
      into.session_ = std::make_unique<SdfSession>(module_, handle, kek_);
      break;
    }
    // A device that gives no more serves with those it gave.
    if (sdf_return_info(rv).kind != ReturnClass::kResource || out_ == 0) return rv;
    const std::size_t before = out_;
    returned_.wait(lock, [&] { return !idle_.empty() || out_ < before; });
  }
  ++out_;
  into.pool_ = this;
  return sdf::kOk;
}

void SdfSessions::drop_idle() {
  const std::scoped_lock lock(mutex_);
  idle_.clear();
}

void SdfSessions::give_back(std::unique_ptr<SdfSession> session, bool spoilt) {
  {
    const std::scoped_lock lock(mutex_);
    --out_;
    if (spoilt)
      session.reset();
    else
      idle_.push_back(std::move(session));
  }
  returned_.notify_all();
}

SdfSessions::Lease::~Lease() {
  if (pool_ != nullptr) pool_->give_back(std::move(session_), spoilt_);
}

}  // namespace coffer::hsm
