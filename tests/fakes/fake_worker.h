// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/worker/worker.h"
#include "core/crypto/digest.h"
#include "core/keyring/key_shares.h"

namespace coffer::tests {

// A disk of FakeWorker. It is what stands on it: a header, something foreign, or nothing.
struct FakeDisk {
  agent::DeviceIdentity identity;
  std::optional<luks2::CheckedHeader> header;
  std::optional<crypto::Sha256Digest> key_digest;
  Error header_error{Reason::kNotLuks2, "hdr.magic: no LUKS2 header"};
  std::string foreign;  // "" or what check_empty() finds.
  std::string file_system;
  std::uint32_t writes = 0;
  std::size_t token_bytes_max = luks2::kTokenJsonBytesMax;  // The room that its header has.
};

// FakeWorker keeps disks and mappings in memory and does what coffer-worker does with them, down to
// the key's digest. It is also where a vault delivers to. Thread-safe.
class FakeWorker final : public agent::Worker, public keyring::DekSink {
 public:
  using Handle = agent::DeviceHandle;

  FakeDisk& plug(const std::string& path);
  void unplug(const std::string& path);
  FakeDisk& disk(const std::string& path) { return disks_.at(path); }
  std::map<std::string, FakeDisk> disks() const;  // A copy: a picture for crash tests.
  void restore(std::map<std::string, FakeDisk> disks);
  std::map<std::string, agent::Mapping> mappings() const;
  void set_open_count(const std::string& mapping, std::uint32_t count);
  void add_mapping(const agent::Mapping& mapping);

  // The next call of that name fails; or every one of that name, or of any, until succeed_again().
  void fail_next(const std::string& call, Reason reason);
  void fail_every(const std::string& call, Reason reason);
  void fail_always(Reason reason);
  void succeed_again();
  // The next replace_token() is cut off once one copy of the header is written.
  void cut_next_replacement();
  // Calls of that name wait until they are let go.
  void hold(const std::string& call);
  void let_go(const std::string& call);
  // Waits until `count` calls of that name have begun since the start.
  bool wait_called(const std::string& call, int count);
  int called(const std::string& call) const;
  int delivered() const;
  std::size_t held() const;  // Handles that are not released.

  Result<std::vector<Result<agent::ScannedDevice>>> scan(std::span<const agent::ScanItem> items,
                                                         Deadline deadline) override;
  void release(std::span<const Handle> handles) noexcept override;
  Result<void> expect(const keyring::Ticket& ticket, std::span<const agent::ExpectedKey> keys,
                      Deadline deadline) override;
  Result<void> wait_results(const keyring::Ticket& ticket,
                            const std::function<void(agent::KeyOutcome)>& each,
                            Deadline deadline) override;
  void cancel(const keyring::Ticket& ticket) noexcept override;
  Result<std::vector<agent::Mapping>> list_mappings(Deadline deadline) override;
  Result<void> deactivate(const std::string& mapping, const VolumeId& volume,
                          agent::DeactivateMode mode, Deadline deadline) override;
  Result<std::vector<agent::Mapping>> clean_mappings(Deadline deadline) override;
  Result<agent::Emptiness> check_empty(Handle handle, Deadline deadline) override;
  Result<agent::BuiltHeader> build_header(const keyring::Ticket& ticket, std::uint32_t index,
                                          const std::string& label, const std::string& token_json,
                                          Deadline deadline) override;
  Result<void> write_header(const keyring::Ticket& ticket, std::uint32_t index,
                            const std::string& confirmation, Deadline deadline) override;
  Result<agent::HeaderPresence> check_written(Handle handle, const agent::HeaderPrint& print,
                                              Deadline deadline) override;
  Result<agent::HeaderPresence> wipe_header(Handle handle, const agent::HeaderPrint& print,
                                            Deadline deadline) override;
  Result<void> replace_token(Handle handle, const std::string& token_json,
                             Deadline deadline) override;
  Result<void> make_file_system(const std::string& mapping, const VolumeId& volume,
                                const std::string& type, const std::string& label,
                                Deadline deadline) override;

  Result<void> deliver(const keyring::Ticket& ticket, std::uint32_t index,
                       const keyring::DekLabel& label, const SecretBytes& dek,
                       Deadline deadline) override;

 private:
  struct Expected {
    agent::ExpectedKey key;
    std::optional<Result<agent::Activated>> outcome;
    std::optional<crypto::Sha256Digest> kept;          // kFormat.
    std::optional<luks2::CheckedHeader> built_header;  // kFormat.
    bool told = false;
    keyring::ShareCollector shares{};
  };
  using Lock = std::unique_lock<std::mutex>;

  Result<Lock> begin(const std::string& call);
  Result<std::string> path_of(Handle handle) const;
  Result<agent::Activated> activate(const agent::ExpectedKey& key,
                                    const crypto::Sha256Digest& digest);
  bool is_gone(const agent::Mapping& mapping) const;
  Expected* find(const keyring::Ticket& ticket, std::uint32_t index);

  mutable std::mutex mutex_;  // Guards all below.
  std::condition_variable changed_;
  std::map<std::string, FakeDisk> disks_;
  std::map<Handle, std::string> handles_;
  struct HeaderAt {
    std::string path;
    std::uint64_t epoch = 0;
  };
  std::map<Handle, HeaderAt> headers_;  // As they were scanned.
  bool cut_replacement_ = false;
  std::map<std::string, agent::Mapping> mappings_;
  std::map<keyring::Ticket, std::vector<Expected>> tickets_;
  struct Failure {
    Reason reason{};
    bool once = true;
  };
  std::map<std::string, Failure> failures_;
  std::optional<Reason> failing_always_;
  std::set<std::string> held_;
  std::map<std::string, int> called_;
  Handle last_handle_ = 0;
  std::uint32_t last_minor_ = 0;
  int delivered_ = 0;
};

}  // namespace coffer::tests
