// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/config.h"
#include "agent/engine.h"
#include "agent/job_table.h"
#include "agent/observed_log.h"
#include "agent/provider_monitor.h"
#include "agent/refusal_counter.h"
#include "agent/unlock/unlock_batch.h"
#include "agent/volume/life.h"
#include "agent/volume_queue.h"
#include "agent/volume_table.h"
#include "core/ipc/event_loop.h"
#include "core/ipc/worker_pool.h"

namespace coffer::agent {

// What the program's log is told, once, where an error stops travelling.
// What happened to a key that an operator may alert on.
enum class KeyEvent : std::uint8_t {
  kNone,
  kUsedInDeletion,  // A use was asked of a key whose deletion runs, and refused.
  kNearDeletion,    // It is destroyed for good within three days: said on each of them.
  kTakenByForce,    // From volumes that use it.
  kDue,             // The clock did it: rotated, destroyed, its material dropped.
};

struct LogEntry {
  int priority = 6;  // As for syslog: 3 an error, 4 a warning, 5 notable, 6 information.
  std::string message;
  std::optional<VolumeId> volume;
  std::string error_name;
  std::optional<CmkId> key{};
  KeyEvent key_event = KeyEvent::kNone;
};

// How far the boot is: what coffer-boot-wait waits for.
struct BootStatus {
  struct Line {
    std::string name;
    VolumeState state = VolumeState::kAbsent;
    std::string text;  // The error, or how long it took.
  };
  bool finished = false;  // Every automatic volume is settled or has failed.
  std::vector<Line> lines;
};

// HostEngine is the Engine over the real parts: worker, vault, store, journal, registry and udev.
// The event loop owns its state; everything that can block runs on its pools as values in and a
// Result out, and comes back as a task of the loop.
//
// Unlocking and locking have pools of their own: withdrawing a key never waits behind what asks a
// token that hangs. So have the probe of the token, which waits for nothing, and what callers ask
// of keys, whose queue is short: when it is full they are refused, and volumes are opened all the
// same. What they read of keys waits neither for a token nor for a device, and looks for no room
// among what does.
class HostEngine final : public Engine {
 public:
  // Owns nothing; all of them outlive it.
  struct Parts {
    ipc::EventLoop& loop;
    Worker& worker;
    keyring::Keyring& keyring;
    keyring::KeyVault& vault;
    ObservedLog& log;
    Registry& registry;
    DeviceWatch& watch;
    const Clock& clock;
    Config config;
    std::string host_id;
    std::string boot_id;
    std::string version;
    std::function<void(const LogEntry&)> print = [](const LogEntry&) {};
    std::chrono::milliseconds tick{1000};  // How often deadlines and retries are looked at.
  };

  // Reads registry and keys; blocks, so before the loop runs. A damaged row is told and left out.
  //   kStoreUnavailable, kStoreDamaged
  static Result<std::unique_ptr<HostEngine>> make(Parts parts);
  // Ends: waits for what runs on the pools. No mapping is touched.
  ~HostEngine() override;

  // Adopts what is open, completes what a crash left, opens what is automatic and there, and goes
  // on doing so. On the loop.
  void start();

  BootStatus boot_status() const;
  // Called on the loop when the boot's volumes have all settled or failed.
  void set_boot_listener(std::function<void()> listener) { boot_listener_ = std::move(listener); }

  // The worker's connection came or went; from any thread.
  void worker_connected(bool connected);

  void set_observer(EngineObserver* observer) override;
  ManagerInfo manager() const override;
  std::vector<VolumeInfo> volumes() const override;
  Result<VolumeInfo> volume(const VolumeId& id) const override;
  Result<VolumeId> resolve(const std::string& spec) const override;
  Result<JobId> unlock(const std::vector<VolumeId>& ids, const UnlockOptions& options,
                       const Caller& caller) override;
  Result<JobId> lock(const std::vector<VolumeId>& ids, const LockOptions& options,
                     const Caller& caller) override;
  Result<JobId> verify(const std::vector<VolumeId>& ids, const Caller& caller) override;
  Result<JobId> provision(const std::string& device, const ProvisionOptions& options,
                          const Caller& caller) override;
  Result<JobId> adopt(const std::string& device, const AdoptOptions& options,
                      const Caller& caller) override;
  Result<JobId> scan(const Caller& caller) override;
  void forget(const VolumeId& id, const Caller& caller, Done<void> done) override;
  std::vector<JobInfo> jobs() const override;
  Result<JobInfo> job(JobId id) const override;
  Result<std::vector<JobItem>> job_items(JobId id) const override;
  Result<void> cancel(JobId id, const Caller& caller) override;
  std::vector<KeyInfo> keys() const override;
  Result<KeyInfo> key(const std::string& id_or_alias) const override;
  void list_keys(const keyring::KeyQuery& query, Done<std::vector<KeyInfo>> done) override;
  void count_keys(const keyring::KeyFilter& filter, Done<std::uint64_t> done) override;
  void create_key(const keyring::CmkParameters& parameters, const Caller& caller,
                  Done<KeyInfo> done) override;
  void change_key(const CmkId& id, const KeyChange& change, const Caller& caller,
                  Done<void> done) override;
  Result<JobId> rewrap_all(const CmkId& id, const RewrapOptions& options,
                           const Caller& caller) override;
  void set_key_tags(const CmkId& id, const std::vector<keyring::KeyTag>& tags, const Caller& caller,
                    Done<void> done) override;
  void set_key_bound(const CmkId& id, const std::string& resource, bool bound, const Caller& caller,
                     Done<void> done) override;
  void key_bindings(const CmkId& id, const std::string& after, std::size_t count_max,
                    Done<std::vector<std::string>> done) override;
  void random_bytes(std::uint32_t size_bytes, const Caller& caller,
                    Done<SecretBytes> done) override;
  void prepare_import(const CmkId& id, keyring::ImportWrapping wrapping, const Caller& caller,
                      Done<keyring::ImportParameters> done) override;
  void import_material(const CmkId& id, const keyring::ImportMaterial& material,
                       const Caller& caller, Done<void> done) override;
  void encrypt(const CmkId& id, UniqueFd sealed, const std::string& application,
               const Caller& caller, Done<Bytes> done) override;
  void decrypt(const keyring::CallerBlob& blob, const std::string& application,
               const Caller& caller, Done<SecretBytes> done) override;
  void make_data_key(const CmkId& id, std::uint32_t size_bytes, const std::string& application,
                     const Caller& caller, Done<NewDataKey> done) override;
  void reencrypt(const keyring::CallerBlob& blob, const std::string& application, const CmkId& to,
                 const std::string& application_then, const Caller& caller,
                 Done<Reencrypted> done) override;
  void sign(const CmkId& id, keyring::SignScheme scheme, const Bytes& digest, const Caller& caller,
            Done<Bytes> done) override;
  void decrypt_asymmetric(const CmkId& id, keyring::DecryptScheme scheme, const Bytes& ciphertext,
                          const Caller& caller, Done<SecretBytes> done) override;
  std::vector<ProviderInfo> providers() const override;
  Result<JobId> test_provider(const std::string& name, const Caller& caller) override;
  AuditHead audit_head() const override { return audit_head_; }
  void audit_query(const AuditFilter& filter, std::uint32_t count_max, const Caller& caller,
                   Done<std::vector<AuditEntry>> done) override;
  void audit_verify(std::uint64_t from_sequence, std::uint64_t to_sequence, const Caller& caller,
                    Done<AuditVerdict> done) override;
  void record_refusal(const std::string& operation, const std::string& object, const Error& error,
                      const Caller& caller) override;

 private:
  // What a job does, and which of its volumes it may begin.
  struct Work {
    std::string operation;
    Caller caller;
    UnlockOptions unlock;
    LockOptions lock;
    std::string device;
    ProvisionOptions provision;
    AdoptOptions adopt;
    OpenRewrap rewrap{CmkId(Uuid())};
    std::deque<VolumeId> waiting;  // Of rewrap: volumes whose turn has not come.
    SteadyTime next_at{};          // When the next one's does.
    bool identified = false;       // Of adopt: its item is the volume itself, not a stand-in.
    std::vector<VolumeId> ready;
    std::shared_ptr<std::atomic<bool>> cancelled = std::make_shared<std::atomic<bool>>(false);
  };
  struct Settling {
    JobId job;
    VolumeId volume;
    JobTable::Outcome outcome;
    SteadyTime began;
    SteadyTime until;
  };
  struct View {  // What a refresh found.
    Result<std::vector<Disk>> disks = fail(Reason::kInternal, "not looked");
    Result<std::vector<Mapping>> mappings = fail(Reason::kInternal, "not looked");
    std::vector<Mapping> cleaned;
    std::uint64_t looked_at = 0;
  };
  using BatchPtr = std::shared_ptr<UnlockBatch>;

  explicit HostEngine(Parts parts);

  // host_engine.cc: jobs, and the threads beside the loop.
  Result<void> load();
  void post(ipc::Task task);
  template <class Body, class Then>
  void run_beside(ipc::WorkerPool& pool, Body body, Then then,
                  const std::function<void(const Error&)>& refused);  // host_engine_pool.h
  // What a caller asks of keys.
  struct KeyCall {
    std::string operation;    // "key.wrap": in the audit trail.
    std::vector<CmkId> keys;  // One at least, but of random bytes, which are about none.
    Caller caller;
  };
  template <class Body, class Then>
  void run_for_caller(const KeyCall& call, Body body,
                      const Then& then);  // host_engine_pool.h
  template <class Body, class Then>
  void read_beside(Body body, const Then& then);  // host_engine_pool.h
  Result<JobId> start_job(const std::vector<VolumeId>& ids, Work work);
  Result<std::vector<VolumeId>> require_known(const std::vector<VolumeId>& ids) const;
  void launch(JobId job);
  void finish_item(JobId job, const VolumeId& id, const JobTable::Outcome& outcome);
  void leave_queue(const VolumeId& id);
  void end_work_if_over(JobId job);
  UnlockParts unlock_parts() const;
  LifeParts life_parts();
  LifeCall life_call(JobId job, const Caller& caller, std::chrono::microseconds timeout) const;
  void print(int priority, const std::string& message, const VolumeId* volume = nullptr,
             const Error* error = nullptr) const;
  void alert(const std::string& severity, const Error& error, const VolumeId& volume);

  // host_engine_unlock.cc: batches of the unlock path.
  void launch_batch(JobId job, const std::vector<VolumeId>& ids);
  bool answer_at_once(JobId job, const Work& work, Volume& volume);
  BatchPtr make_batch(JobId job, const Work& work, const std::vector<VolumeId>& ids);
  void run_batch(JobId job, const BatchPtr& batch, std::vector<VolumeRow> changed);
  void take_batch(JobId job, UnlockBatch& batch, SteadyTime began, std::uint64_t began_boot_usec);
  void take_opened(JobId job, const UnlockTarget& target, Volume& volume, SteadyTime began,
                   std::uint64_t began_boot_usec);
  void take_failed(JobId job, const UnlockTarget& target, Volume& volume, SteadyTime began);
  void wait_settled(Settling settling);
  void on_settled(const std::string& mapping);
  void expire_settling();

  // host_engine_volumes.cc: the other operations on volumes.
  void launch_lock(JobId job, const VolumeId& id);
  void launch_provision(JobId job, const VolumeId& id);
  void launch_adopt(JobId job, const VolumeId& id);
  void identify_adopted(JobId job, const VolumeId& place);
  void launch_recover(JobId job, const VolumeId& id);
  void launch_first_opening(JobId job, Volume& volume);

  // host_engine_rewrap.cc
  void pace_rewraps();
  void begin_rewrap(JobId job, Work& work);
  void launch_rewrap(JobId job, const VolumeId& id);
  void leave_rewrap(JobId job, const VolumeId& id);
  void note_rewrap(JobId job);
  void forget_rewrap(const OpenRewrap& rewrap);
  void resume_rewraps();
  void take_open_rewraps(const std::vector<OpenRewrap>& open);
  void destroy_version(const CmkId& key, const KeyChange& change, const Caller& caller,
                       const Done<void>& done);
  Result<void> require_no_volume_needs(const CmkId& key, std::uint32_t version);

  // host_engine_watch.cc: what is there, and what should be open.
  void request_refresh();
  void take_view(View view);
  void take_mapping(Volume& volume, const Mapping* mapping);
  void open_automatic();
  void recover_rows();
  void want_file_systems();
  void recover_later(Volume& volume);
  void recover_again(SteadyTime due);
  bool wants_opening(const Volume& volume) const;
  bool boot_waits_for(const Volume& volume) const;
  void check_boot();
  void probe();
  void retry_now(const std::function<bool(const Volume&)>& which);
  void retry_after_return();
  void close_open_intents(const std::vector<Mapping>& mappings);
  void close_intents_later();
  void note_records_before();
  std::chrono::milliseconds longer_wait(std::chrono::milliseconds before) const;
  void end_unfinished_locks();
  void tick();

  // host_engine_keys.cc
  void reconcile_keys();
  KeyInfo info_of(const keyring::CmkRecord& record) const;
  Result<void> record_reason(const KeyCall& call);
  void tell_damaged(const std::vector<Error>& damaged);
  void take_key(const keyring::CmkRecord& record, bool is_new);
  void take_enabled(const CmkId& id);
  bool key_came_meanwhile(const Error& error, SteadyTime began) const;
  void settle_bindings_of(const std::vector<CmkId>& keys);
  void settle_all_bindings();
  void run_settling(const std::vector<CmkId>& keys, bool all);
  void settle_later(const std::vector<CmkId>& keys);
  void settle_what_is_due();
  void note_due(const keyring::CmkRecord& record);
  void look_for_due();
  void take_due(const Result<keyring::DueReport>& report);

  // host_engine_deletions.cc: volumes that are about to lose a key for good.
  void note_deletion(const keyring::CmkRecord& record);
  void warn_of_deletions();
  std::string deletion_note(const VolumeRow& row) const;
  void forget_warnings(const VolumeId& id);

  // host_engine_key_alarms.cc: what an operator is to know of keys.
  void print_of_key(KeyEvent event, int priority, const CmkId& id, const std::string& message,
                    const Error* error = nullptr) const;
  void alarm_of_use(const CmkId& id, const std::string& use, const Caller& caller,
                    const Error& error) const;
  void alarm_of_near_deletions();
  // `done`, which a use whose key is to be deleted is told of first.
  template <class T>
  Done<T> alarmed(const CmkId& id, const std::string& use, const Caller& caller,
                  Done<T> done) const {
    return [this, id, use, caller, done = std::move(done)](Result<T> end) {
      if (!end) alarm_of_use(id, use, caller, end.error());
      done(std::move(end));
    };
  }

  // host_engine_audit.cc
  // What was not done of `call`, of a version of its key if one is named. Blocks, so on a pool.
  void record_refused(const KeyCall& call, const Error& error, std::uint32_t version = 0);
  void record_floods();
  void take_head(const audit::Head& head);

  Parts parts_;
  EngineObserver* observer_ = nullptr;
  VolumeTable volumes_;
  VolumeQueue queue_;
  JobTable jobs_;
  ProviderMonitor provider_;
  std::map<CmkId, keyring::CmkRecord> keys_;
  std::map<CmkId, std::vector<keyring::KeyTag>> key_tags_;  // Of keys that have any.
  std::map<CmkId, std::uint64_t> tags_taken_;  // By which reading, of keys whose tags were changed.
  std::optional<SteadyTime> key_came_at_;      // When one last came to serve again.
  std::optional<WallTime> due_at_;           // When the keyring has something to do by itself next,
  std::optional<SteadyTime> due_looked_at_;  // or kDueEvery after this at the latest;
  std::optional<SteadyTime> due_again_at_;   // but not before this, where it could not even look,
  std::chrono::milliseconds due_wait_{0};    // and each time later.
  bool due_running_ = false;
  std::map<CmkId, int> near_deletions_told_;  // How many days there were left when it was said.
  std::string due_told_;                      // What was printed of that.
  std::set<std::string> damaged_told_;        // Damaged records that were printed.
  bool bindings_all_ = true;                  // All bindings are to be settled,
  std::set<CmkId> bindings_of_;               // or those of these keys,
  std::optional<SteadyTime> bindings_at_{SteadyTime{}};         // at this time,
  std::chrono::milliseconds bindings_wait_{0};                  // and each time later.
  std::set<CmkId> deletions_;                                   // Keys in PendingDelete.
  enum class DeletionTold : std::uint8_t { kBegun, kLastDay };  // The last warning of it.
  std::map<std::pair<CmkId, VolumeId>, DeletionTold> deletions_told_;
  std::optional<WallTime> deletions_at_{WallTime{}};  // When to look whom to warn.
  std::map<JobId, Work> works_;
  std::map<std::string, Settling> settling_;  // By name of the mapping.
  std::vector<JobId> scan_jobs_;
  std::set<std::pair<JobId, VolumeId>> rewraps_;  // Whose turn has come, and which have not ended.
  ipc::EventSource rewrap_timer_;                 // For the next one's turn.
  bool rewraps_resumed_ = false;
  // Keys whose rewrap was asked for before those that a restart cut off were gone on with: what is
  // noted of them is their own. None: it has been done.
  std::optional<std::set<CmkId>> rewraps_asked_{std::in_place};
  std::function<void()> boot_listener_;

  bool started_ = false;
  bool refreshing_ = false;
  bool refresh_again_ = false;
  bool seen_ = false;            // A refresh has come back.
  bool intents_closed_ = false;  // One of them had the list of mappings, and it was done.
  bool closing_intents_ = false;
  bool locks_ended_ = false;  // Those that a kill cut off, by the first list of mappings.
  std::optional<SteadyTime> intents_at_;       // To be tried again at this time,
  std::chrono::milliseconds intents_wait_{0};  // and each time later.
  std::optional<SteadyTime> keys_at_;          // The same of reconcile_keys().
  std::chrono::milliseconds keys_wait_{0};
  std::optional<std::uint64_t> records_before_;  // Of the journal, when this agent came to it.
  AuditHead audit_head_;
  RefusalCounter refusals_;  // Its period is a tick.
  SteadyTime started_at_{};
  WallTime boot_finished_{};
  std::chrono::microseconds boot_duration_{0};
  ipc::EventSource ticker_;

  // Tasks posted to the loop look here whether the engine is still there.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::mutex tags_mutex_;               // Guards the next, for as long as the store is read.
  std::uint64_t tags_read_ = 0;         // How often tags were read after a change.
  std::atomic<bool> stopping_ = false;  // What callers ask of keys and did not begin is not done.
  // Last, so that they end first.
  ipc::WorkerPool unlock_pool_;
  ipc::WorkerPool lock_pool_;   // Nothing on it asks the vault.
  ipc::WorkerPool use_pool_;    // What callers ask of keys.
  ipc::WorkerPool read_pool_;   // What callers read of keys: nothing on it waits for a device.
  ipc::WorkerPool proof_pool_;  // Proofs that no volume needs a version: each reads all headers.
  ipc::WorkerPool probe_pool_;  // Nothing else: how the token is shows also while others wait.
  ipc::WorkerPool pool_;
};

// "dbus" and so on to the audit trail's word for it.
audit::Actor actor_of(const Caller& caller);

}  // namespace coffer::agent
