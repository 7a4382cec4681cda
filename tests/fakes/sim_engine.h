// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/engine.h"
#include "agent/job_table.h"
#include "core/ipc/event_loop.h"

namespace coffer::tests {

// SimEngine is an agent without a vault, a worker or a disk: volumes and keys are entries in
// memory, jobs take their time by timers of the loop, and everything fails on demand. The whole
// D-Bus layer and the command line run on it anywhere. It keeps what was asked of it, so that a
// test can say that a refused call had no effect.
class SimEngine final : public agent::Engine {
 public:
  struct Options {
    std::chrono::microseconds item_time{1000};  // How long one volume takes in a job.
    std::chrono::seconds jobs_kept{60};
    std::size_t jobs_max = 256;
  };

  SimEngine(ipc::EventLoop& loop, const Options& options);
  explicit SimEngine(ipc::EventLoop& loop) : SimEngine(loop, Options()) {}

  // ---- What the test arranges.
  VolumeId add_volume(const std::string& name,
                      agent::VolumeState state = agent::VolumeState::kLocked);
  void remove_volume(const VolumeId& id);
  void change_volume(const VolumeId& id, const std::function<void(agent::VolumeInfo&)>& change);
  CmkId add_key(const std::string& alias);
  // A key that truly signs, for those who check with its public half.
  using Signer = std::function<Result<Bytes>(ByteView digest)>;
  CmkId add_signing_key(const std::string& alias, keyring::KeyAlgorithm algorithm, Bytes public_key,
                        Signer signer);
  // Every job item on `name` fails with `error`, until it is empty again.
  void fail_volume(const std::string& name, std::optional<Error> error);
  void change_record(const CmkId& id, const std::function<void(keyring::CmkRecord&)>& change);
  void remove_key(const CmkId& id);  // As if its time to be destroyed had come.
  // So many more are counted whose records cannot be read.
  void set_damaged_keys(std::uint64_t count) { damaged_keys_ = count; }
  // The next call to create_key, change_key, … audit_verify fails.
  void fail_next(Error error) { next_failure_ = std::move(error); }
  // The provider is down for `error`, until it is empty again.
  void fail_provider(std::optional<Error> error);
  // Jobs stand still until release(); what is asked meanwhile waits too.
  void hold() { held_ = true; }
  void release();
  void raise_alert(const std::string& severity, Reason reason, const std::string& object,
                   const std::string& text);

  // ---- What the test sees.
  struct Refusal {
    std::string operation;
    std::string object;
    Reason reason;
    agent::Caller caller;
  };
  const std::vector<Refusal>& refusals() const noexcept { return refusals_; }
  // "unlock a b", "create-key main", in order: everything that was allowed to change something.
  const std::vector<std::string>& effects() const noexcept { return effects_; }
  const agent::Caller& last_caller() const noexcept { return last_caller_; }
  const agent::RewrapOptions& last_rewrap() const noexcept { return last_rewrap_; }

  // ---- agent::Engine
  void set_observer(agent::EngineObserver* observer) override;
  agent::ManagerInfo manager() const override;
  std::vector<agent::VolumeInfo> volumes() const override;
  Result<agent::VolumeInfo> volume(const VolumeId& id) const override;
  Result<VolumeId> resolve(const std::string& spec) const override;
  Result<agent::JobId> unlock(const std::vector<VolumeId>& ids, const agent::UnlockOptions& options,
                              const agent::Caller& caller) override;
  Result<agent::JobId> lock(const std::vector<VolumeId>& ids, const agent::LockOptions& options,
                            const agent::Caller& caller) override;
  Result<agent::JobId> verify(const std::vector<VolumeId>& ids,
                              const agent::Caller& caller) override;
  Result<agent::JobId> provision(const std::string& device, const agent::ProvisionOptions& options,
                                 const agent::Caller& caller) override;
  Result<agent::JobId> adopt(const std::string& device, const agent::AdoptOptions& options,
                             const agent::Caller& caller) override;
  Result<agent::JobId> scan(const agent::Caller& caller) override;
  void forget(const VolumeId& id, const agent::Caller& caller, Done<void> done) override;
  std::vector<agent::JobInfo> jobs() const override;
  Result<agent::JobInfo> job(agent::JobId id) const override;
  Result<std::vector<agent::JobItem>> job_items(agent::JobId id) const override;
  Result<void> cancel(agent::JobId id, const agent::Caller& caller) override;
  std::vector<agent::KeyInfo> keys() const override;
  Result<agent::KeyInfo> key(const std::string& id_or_alias) const override;
  void list_keys(const keyring::KeyQuery& query, Done<std::vector<agent::KeyInfo>> done) override;
  void count_keys(const keyring::KeyFilter& filter, Done<std::uint64_t> done) override;
  void create_key(const keyring::CmkParameters& parameters, const agent::Caller& caller,
                  Done<agent::KeyInfo> done) override;
  void change_key(const CmkId& id, const agent::KeyChange& change, const agent::Caller& caller,
                  Done<void> done) override;
  Result<agent::JobId> rewrap_all(const CmkId& id, const agent::RewrapOptions& options,
                                  const agent::Caller& caller) override;
  void set_key_tags(const CmkId& id, const std::vector<keyring::KeyTag>& tags,
                    const agent::Caller& caller, Done<void> done) override;
  void set_key_bound(const CmkId& id, const std::string& resource, bool bound,
                     const agent::Caller& caller, Done<void> done) override;
  void key_bindings(const CmkId& id, const std::string& after, std::size_t count_max,
                    Done<std::vector<std::string>> done) override;
  void random_bytes(std::uint32_t size_bytes, const agent::Caller& caller,
                    Done<SecretBytes> done) override;
  void prepare_import(const CmkId& id, keyring::ImportWrapping wrapping,
                      const agent::Caller& caller, Done<keyring::ImportParameters> done) override;
  void import_material(const CmkId& id, const keyring::ImportMaterial& material,
                       const agent::Caller& caller, Done<void> done) override;
  void encrypt(const CmkId& id, UniqueFd sealed, const std::string& application,
               const agent::Caller& caller, Done<Bytes> done) override;
  void decrypt(const keyring::CallerBlob& blob, const std::string& application,
               const agent::Caller& caller, Done<SecretBytes> done) override;
  void make_data_key(const CmkId& id, std::uint32_t size_bytes, const std::string& application,
                     const agent::Caller& caller, Done<agent::NewDataKey> done) override;
  void reencrypt(const keyring::CallerBlob& blob, const std::string& application, const CmkId& to,
                 const std::string& application_then, const agent::Caller& caller,
                 Done<agent::Reencrypted> done) override;
  void sign(const CmkId& id, keyring::SignScheme scheme, const Bytes& digest,
            const agent::Caller& caller, Done<Bytes> done) override;
  void decrypt_asymmetric(const CmkId& id, keyring::DecryptScheme scheme, const Bytes& ciphertext,
                          const agent::Caller& caller, Done<SecretBytes> done) override;
  std::vector<agent::ProviderInfo> providers() const override;
  Result<agent::JobId> test_provider(const std::string& name, const agent::Caller& caller) override;
  agent::AuditHead audit_head() const override;
  void audit_query(const agent::AuditFilter& filter, std::uint32_t count_max,
                   const agent::Caller& caller, Done<std::vector<agent::AuditEntry>> done) override;
  void audit_verify(std::uint64_t from_sequence, std::uint64_t to_sequence,
                    const agent::Caller& caller, Done<agent::AuditVerdict> done) override;
  void record_refusal(const std::string& operation, const std::string& object, const Error& error,
                      const agent::Caller& caller) override;

 private:
  using Step = std::function<agent::JobTable::Outcome(agent::VolumeInfo&)>;

  void effect(const std::string& what, const std::string& object, const agent::Caller& caller);
  Result<agent::JobId> start(const std::string& operation, std::vector<VolumeId> ids,
                             agent::VolumeState during, const agent::Caller& caller, Step step);
  Result<agent::JobId> start_on_device(const std::string& operation, const std::string& device,
                                       const std::string& name, bool automatic,
                                       const agent::Caller& caller);
  void run_items(agent::JobId job, std::vector<VolumeId> ids, agent::VolumeState during, Step step);
  void finish_item(agent::JobId job, const VolumeId& id, const Step& step);
  void set_state(agent::VolumeInfo& volume, agent::VolumeState state, const std::string& reason);
  void later(std::function<void()> function);
  template <class T>
  bool failed(const Done<T>& done);
  void edit_key(const CmkId& id, const std::string& what, const agent::Caller& caller,
                const Done<void>& done, const std::function<void(agent::KeyInfo&)>& change);
  template <class T>
  bool cannot_use(const CmkId& id, const Done<T>& done);
  keyring::CallerBlob seal(const CmkId& id, keyring::Purpose purpose, ByteView plain,
                           const std::string& application);
  Result<Bytes> open(const keyring::CallerBlob& blob, const std::string& application) const;

  ipc::EventLoop& loop_;
  const Options options_;
  agent::JobTable jobs_;
  agent::EngineObserver* observer_ = nullptr;
  std::map<VolumeId, agent::VolumeInfo> volumes_;
  std::map<CmkId, agent::KeyInfo> keys_;
  std::uint64_t damaged_keys_ = 0;
  std::map<CmkId, Signer> signers_;
  std::map<CmkId, std::set<std::string>> bindings_;    // Beside volumes.
  std::vector<std::pair<Bytes, std::string>> sealed_;  // Plain texts and their contexts.
  std::map<std::string, Error> failures_;
  std::optional<Error> next_failure_;
  std::optional<Error> provider_error_;
  std::vector<agent::AuditEntry> audit_;
  std::vector<Refusal> refusals_;
  std::vector<std::string> effects_;
  agent::Caller last_caller_;
  agent::RewrapOptions last_rewrap_;
  bool held_ = false;
  std::vector<std::function<void()>> waiting_;
  std::map<std::uint64_t, ipc::EventSource> timers_;
  std::uint64_t last_timer_ = 0;
  ipc::EventSource expiry_;
};

template <class T>
bool SimEngine::failed(const Done<T>& done) {
  if (!next_failure_) return false;
  const Error error = *std::exchange(next_failure_, std::nullopt);
  later([done, error] { done(Result<T>(tl::unexpected(error))); });
  return true;
}

}  // namespace coffer::tests
