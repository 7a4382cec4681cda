// SPDX-License-Identifier: Apache-2.0
#include "core/audit/journal.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "core/audit/recovery.h"
#include "core/audit/segment_list.h"
#include "core/audit/segment_writer.h"
#include "core/audit/verifier.h"
#include "core/base/encoding.h"
#include "core/base/files.h"

namespace coffer::audit {
namespace {

// One commit takes whole calls until it has this many events; a larger call goes alone.
constexpr std::size_t kCommitEvents = 1024;
constexpr std::size_t kQueryRecordsMax = 10'000;
constexpr std::size_t kQueryBytesMax = std::size_t{32} << 20U;  // Read by one call.
constexpr std::uint64_t kSegmentBytesMin = std::uint64_t{64} << 10U;
constexpr std::chrono::seconds kDeferredRetry{1};

Result<Uuid> kernel_boot_id() {
  const auto text = read_file("/proc/sys/kernel/random/boot_id", 64);
  if (!text) return tl::unexpected(text.error());
  return Uuid::parse(as_text(*text).substr(0, Uuid::kTextLength));
}

Event own_event(Kind kind, std::string operation, std::string text) {
  Event event;
  event.kind = kind;
  event.operation = std::move(operation);
  event.text = std::move(text);
  return event;
}

// What becomes of the events of a call that could not be recorded in time.
enum class Late : std::uint8_t {
  kDrop,  // Never recorded; where the write had begun, its intents are closed.
  kKeep,  // Recorded once, with the next commit.
};

// One call of append(), shared between its caller and the thread: the caller may give up first.
struct Append {
  Append(std::span<const Event> some, Late when_late)
      : events(some.begin(), some.end()), late(when_late) {}
  const std::vector<Event> events;
  const Late late;
  bool abandoned = false;  // By its caller, after the thread took it.
  std::condition_variable done;
  std::optional<Result<std::vector<std::uint64_t>>> result;
};
using AppendPtr = std::shared_ptr<Append>;

tl::unexpected<Error> unavailable(const std::string& why) {
  return fail(Reason::kAuditUnavailable, "record in the audit journal: " + why);
}

// The end of an intent that became durable when its caller had given up.
Event cancelled(Event intent, std::uint64_t sequence) {
  intent.kind = Kind::kResult;
  intent.intent_sequence = sequence;
  intent.outcome = std::string(reason_info(Reason::kCancelled).name);
  intent.text = "not done: the journal was too slow to record the intent";
  return intent;
}

}  // namespace

class Journal::Impl {
 public:
  Impl(std::unique_ptr<JournalFiles> files, const Options& options, const Uuid& boot,
       const Recovered& recovered)
      : files_(std::move(files)),
        options_(options),
        boot_(boot),
        writer_(
            *files_,
            {options.node,
             std::clamp(options.segment_bytes, kSegmentBytesMin, std::uint64_t{kSegmentBytesMax}),
             options.clock},
            recovered),
        head_(recovered.head),
        segments_(recovered.segments) {}
  ~Impl() { stop(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // Before the thread runs: the first commit.
  Result<void> start(const Recovered& recovered);

  Result<std::vector<std::uint64_t>> append(std::span<const Event> events, Late late);
  void append_deferred(Event event);
  Result<Page> query(const Filter& filter, std::size_t records_max);
  Result<VerifyReport> verify(std::uint64_t from, std::uint64_t to);
  Head head() const {
    const std::scoped_lock lock(mutex_);
    return head_;
  }
  bool available() const {
    const std::scoped_lock lock(mutex_);
    return available_;
  }
  void stop();

 private:
  using Lock = std::unique_lock<std::mutex>;

  // What one commit records: deferred events first, then whole calls.
  struct Batch {
    std::vector<Event> deferred;
    std::vector<AppendPtr> calls;

    bool empty() const { return deferred.empty() && calls.empty(); }
  };

  // With mutex_ held.
  bool take_back(const AppendPtr& call);
  void keep(Event event);
  void settle(Append& call, const Result<void>& done, std::uint64_t first_sequence);

  void run();
  Batch next_batch();
  std::vector<Event> take_deferred();
  void commit_batch(Batch batch);
  Result<void> commit(std::span<const Event* const> events);
  Bytes encode_next(const Event& event, Head& head) const;

  const std::unique_ptr<JournalFiles> files_;
  const Options options_;
  const Uuid boot_;
  SegmentWriter writer_;  // Of the thread; before it runs, of start().

  mutable std::mutex mutex_;  // Guards all below but thread_.
  std::condition_variable work_;
  std::deque<AppendPtr> waiting_;
  std::size_t waiting_events_ = 0;
  std::vector<Event> deferred_;
  std::uint64_t deferred_dropped_ = 0;
  Head head_;
  std::vector<SegmentName> segments_;
  bool available_ = true;
  bool stopping_ = false;
  std::thread thread_;
};

// --- Callers.

Result<void> Journal::Impl::start(const Recovered& recovered) {
  std::vector<Event> events;
  events.push_back(own_event(Kind::kStart, "audit.start",
                             options_.program + " begins after record " +
                                 std::to_string(recovered.head.sequence) +
                                 (recovered.stopped ? "" : ", which was no stop: it had crashed")));
  if (recovered.before != Before::kWhole) {
    events.push_back(own_event(Kind::kNote, "audit.cut",
                               std::to_string(recovered.void_bytes) + " bytes behind record " +
                                   std::to_string(recovered.head.sequence) +
                                   " were torn by a crash and never acknowledged"));
  }
  std::vector<const Event*> pointers;
  pointers.reserve(events.size());
  for (const Event& event : events) pointers.push_back(&event);
  if (auto done = commit(pointers); !done) return done;
  tidy(*files_, recovered);
  thread_ = std::thread([this] { run(); });
  return {};
}

Result<std::vector<std::uint64_t>> Journal::Impl::append(std::span<const Event> events, Late late) {
  if (events.empty() || events.size() > kEventsMax) {
    return fail(Reason::kInvalidArgs,
                "record " + std::to_string(events.size()) + " events at once");
  }
  const auto deadline = Deadline::after(options_.deadline).at();
  const auto call = std::make_shared<Append>(events, late);
  Lock lock(mutex_);
  if (stopping_) return unavailable("it is closed");
  if (waiting_events_ + events.size() > options_.waiting_max && waiting_events_ > 0) {
    settle(*call, unavailable("too many events wait"), 0);
    return std::move(*call->result);
  }
  waiting_.push_back(call);
  waiting_events_ += events.size();
  work_.notify_one();
  if (call->done.wait_until(lock, deadline, [&] { return call->result.has_value(); })) {
    return std::move(*call->result);
  }
  available_ = false;
  if (!take_back(call)) {
    // Its write has begun, and the thread settles it.
    call->abandoned = true;
    return unavailable("the disk did not answer in time");
  }
  settle(*call, unavailable("the disk did not answer in time"), 0);
  return std::move(*call->result);
}

// False: the thread has it already.
bool Journal::Impl::take_back(const AppendPtr& call) {
  const auto found = std::find(waiting_.begin(), waiting_.end(), call);
  if (found == waiting_.end()) return false;
  waiting_.erase(found);
  waiting_events_ -= call->events.size();
  return true;
}

void Journal::Impl::keep(Event event) {
  if (deferred_.size() >= kDeferredMax) {
    ++deferred_dropped_;
  } else {
    deferred_.push_back(std::move(event));
  }
}

// A call has ended: its result, and what follows for its events.
void Journal::Impl::settle(Append& call, const Result<void>& done, std::uint64_t first_sequence) {
  if (!done) {
    if (call.late == Late::kKeep) {
      for (const Event& event : call.events) keep(event);
    }
    call.result = tl::unexpected(done.error());
    return;
  }
  std::vector<std::uint64_t> sequences;
  sequences.reserve(call.events.size());
  for (const Event& event : call.events) {
    const std::uint64_t sequence = first_sequence + sequences.size();
    sequences.push_back(sequence);
    const bool void_intent =
        call.abandoned && call.late == Late::kDrop && event.kind == Kind::kIntent;
    if (void_intent) keep(cancelled(event, sequence));
  }
  call.result = std::move(sequences);
}

void Journal::Impl::append_deferred(Event event) {
  {
    const std::scoped_lock lock(mutex_);
    keep(std::move(event));
  }
  work_.notify_one();
}

void Journal::Impl::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  work_.notify_one();
  if (thread_.joinable()) thread_.join();
}

// --- The thread that writes.

void Journal::Impl::run() {
  for (;;) {
    Batch batch = next_batch();
    if (batch.empty()) break;
    commit_batch(std::move(batch));
  }
  Batch last{take_deferred(), {}};
  last.deferred.push_back(
      own_event(Kind::kStop, "audit.stop", options_.program + " closes the journal"));
  // If that fails the next start tells of a crash, which is the best that can be said.
  commit_batch(std::move(last));
  writer_.close();
}

std::vector<Event> Journal::Impl::take_deferred() {
  const std::scoped_lock lock(mutex_);
  std::vector<Event> events = std::exchange(deferred_, {});
  if (deferred_dropped_ > 0) {
    events.push_back(dropped_note(std::exchange(deferred_dropped_, 0)));
  }
  return events;
}

// Waits for something to record. Empty when the journal stops and nothing is left.
Journal::Impl::Batch Journal::Impl::next_batch() {
  Lock lock(mutex_);
  const auto anything = [&] { return stopping_ || !waiting_.empty(); };
  if (!available_ && !deferred_.empty() && !stopping_) {
    // They failed a moment ago: wait for a caller, or a while.
    work_.wait_for(lock, kDeferredRetry, anything);
  } else {
    work_.wait(lock, [&] { return anything() || !deferred_.empty(); });
  }
  Batch batch;
  // What is deferred then goes with the stop.
  if (!stopping_) {
    lock.unlock();
    batch.deferred = take_deferred();
    lock.lock();
  }
  std::size_t events = batch.deferred.size();
  while (!waiting_.empty()) {
    const std::size_t more = waiting_.front()->events.size();
    if (events > 0 && events + more > kCommitEvents) break;
    batch.calls.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    waiting_events_ -= more;
    events += more;
  }
  return batch;
}

void Journal::Impl::commit_batch(Batch batch) {
  std::vector<const Event*> events;
  events.reserve(batch.deferred.size());
  for (const Event& event : batch.deferred) events.push_back(&event);
  for (const auto& call : batch.calls) {
    for (const Event& event : call->events) events.push_back(&event);
  }
  const auto done = commit(events);

  const std::scoped_lock lock(mutex_);
  available_ = done.has_value();
  if (!done) {
    deferred_.insert(deferred_.begin(), std::make_move_iterator(batch.deferred.begin()),
                     std::make_move_iterator(batch.deferred.end()));
  }
  std::uint64_t sequence = head_.sequence + 1 - events.size() + batch.deferred.size();
  for (const auto& call : batch.calls) {
    settle(*call, done ? done : unavailable(done.error().message()), sequence);
    sequence += call->events.size();
    call->done.notify_one();
  }
}

// Makes the events durable as one block and moves the head behind them.
Result<void> Journal::Impl::commit(std::span<const Event* const> events) {
  const Head before = head();
  Head after = before;
  std::vector<Bytes> records;
  records.reserve(events.size());
  for (const Event* event : events) records.push_back(encode_next(*event, after));
  if (auto done = writer_.commit(encode_block(records), before); !done) return done;

  const std::scoped_lock lock(mutex_);
  head_ = after;
  if (segments_.empty() || segments_.back() != writer_.segment()) {
    segments_.push_back(writer_.segment());
  }
  return {};
}

Bytes Journal::Impl::encode_next(const Event& event, Head& head) const {
  const Clock& clock = *options_.clock;
  // A clock before 1970 has no place in the format.
  const WallTime wall = std::max(clock.wall(), WallTime{});
  const Record record{options_.node, head.sequence + 1, wall, clock.since_boot(), boot_,
                      event,         head.hash,         {}};
  Bytes encoded = encode(record);
  head = {record.sequence, hash_of(encoded)};
  return encoded;
}

// --- Reading, on the callers' threads.

Result<VerifyReport> Journal::Impl::verify(std::uint64_t from, std::uint64_t to) {
  const Head last = head();
  const std::uint64_t end = to == 0 ? last.sequence : to;
  if (from > end || end > last.sequence) {
    return fail(Reason::kInvalidArgs, "verify records " + std::to_string(from) + " to " +
                                          std::to_string(end) + ": the journal ends at " +
                                          std::to_string(last.sequence));
  }
  auto report = verify_files(*files_, from, end);
  if (report && report->intact && end == last.sequence && report->head != last) {
    // Whole but not what was written here: the files were replaced.
    report->intact = false;
    report->bad_sequence = end;
    report->problem = "record " + std::to_string(end) + ": is not the one that was recorded";
  }
  return report;
}

Result<Page> Journal::Impl::query(const Filter& filter, std::size_t records_max) {
  std::vector<SegmentName> segments;
  std::uint64_t end = 0;
  {
    const std::scoped_lock lock(mutex_);
    segments = segments_;
    end = head_.sequence;
  }
  if (filter.to_sequence != 0) end = std::min(end, filter.to_sequence);
  const std::size_t wanted = std::clamp<std::size_t>(records_max, 1, kQueryRecordsMax);

  Page page;
  std::uint64_t next = std::max<std::uint64_t>(filter.from_sequence, 1);
  std::size_t bytes_read = 0;
  auto at = std::upper_bound(segments.begin(), segments.end(), next,
                             [](std::uint64_t sequence, const SegmentName& name) {
                               return sequence < name.first_sequence;
                             });
  if (at != segments.begin()) --at;
  for (; at != segments.end() && next <= end; ++at) {
    if (bytes_read > kQueryBytesMax) {
      page.next_sequence = next;
      return page;
    }
    const auto file = read_segment(*files_, *at);
    if (!file) return fail(Reason::kAuditBroken, file.error().str());
    bytes_read += file->size();
    const std::uint64_t next_first =
        at + 1 == segments.end() ? UINT64_MAX : (at + 1)->first_sequence;
    BlockReader reader(*file);
    std::uint64_t sequence = at->first_sequence;
    while (sequence < next_first && sequence <= end) {
      const auto block = reader.next();
      if (!block) {
        return fail(Reason::kAuditBroken, "record " + std::to_string(sequence) + " of " +
                                              to_string(*at) + " cannot be read");
      }
      for (const ByteView encoded : *block) {
        if (sequence++ < next) continue;
        if (sequence > end + 1) break;
        const auto record = decode(encoded);
        if (!record || record->sequence + 1 != sequence) {
          return fail(Reason::kAuditBroken, "record " + std::to_string(sequence - 1) + " of " +
                                                to_string(*at) + " cannot be read");
        }
        next = sequence;
        if (!matches(filter, *record)) continue;
        page.records.push_back(*record);
        if (page.records.size() < wanted) continue;
        if (next <= end) page.next_sequence = next;
        return page;
      }
    }
  }
  return page;
}

// --- The interface.

Journal::Journal(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Journal::~Journal() = default;

Result<std::unique_ptr<Journal>> Journal::open(const std::string& folder, const Options& options) {
  auto files = open_journal_folder(folder);
  if (!files) return tl::unexpected(files.error());
  return open(std::move(*files), options);
}

Result<std::unique_ptr<Journal>> Journal::open(std::unique_ptr<JournalFiles> files,
                                               const Options& options) {
  const auto boot = options.boot ? Result<Uuid>(*options.boot) : kernel_boot_id();
  if (!boot) return pass(boot.error(), "read the boot id");
  const auto recovered = recover(*files, options.node);
  if (!recovered) return pass(recovered.error(), "open the audit journal");
  auto impl = std::make_unique<Impl>(std::move(files), options, *boot, *recovered);
  if (auto started = impl->start(*recovered); !started) {
    return pass(started.error(), "open the audit journal");
  }
  return std::unique_ptr<Journal>(new Journal(std::move(impl)));
}

Result<std::vector<std::uint64_t>> Journal::append(std::span<const Event> events) {
  return impl_->append(events, Late::kDrop);
}
Result<std::vector<std::uint64_t>> Journal::append_kept(std::span<const Event> events) {
  return impl_->append(events, Late::kKeep);
}
void Journal::append_deferred(Event event) {
  impl_->append_deferred(std::move(event));
}
Result<Page> Journal::query(const Filter& filter, std::size_t records_max) {
  return impl_->query(filter, records_max);
}
Result<VerifyReport> Journal::verify(std::uint64_t from, std::uint64_t to) {
  return impl_->verify(from, to);
}
Head Journal::head() const {
  return impl_->head();
}
bool Journal::available() const {
  return impl_->available();
}
void Journal::stop() {
  impl_->stop();
}

}  // namespace coffer::audit
