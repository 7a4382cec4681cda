// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/header_scanner.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>

#include "tests/unit/agent/worker/worker_fixture.h"

namespace coffer::agent {
namespace {

constexpr std::string_view kPoison = "this header kills the reader";

// A reader that dies of one header: its connection ends without an answer, as when its process
// does, and the next connection finds a new one.
class MortalReader {
 public:
  explicit MortalReader(const std::string& path)
      : listening_(ipc::listen_at(path).value()), thread_([this] { live(); }) {}
  ~MortalReader() {
    stopping_ = true;
    thread_.join();
  }
  MortalReader(const MortalReader&) = delete;
  MortalReader& operator=(const MortalReader&) = delete;

  int deaths() const { return deaths_; }

 private:
  void live() {
    while (!stopping_) {
      auto connected = ipc::accept_from(listening_.get(), Deadline::after(kSlice));
      if (!connected) continue;
      ipc::Channel channel(std::move(*connected), Reason::kWorkerLost);
      while (!stopping_ && answer(channel)) continue;
    }
  }
  // False: dead.
  bool answer(ipc::Channel& channel) {
    auto message = channel.receive(Deadline::after(kSlice));
    if (!message) return message.error().reason() == Reason::kTimedOut;
    const auto frame = ipc::decode_frame(message->bytes).value();
    const auto slots = decode_slots(frame.body).value();
    for (const auto& slot : slots) {
      Bytes start(std::min<std::size_t>(slot.length_bytes, kPoison.size()));
      EXPECT_TRUE(
          read_exactly_at(message->fds.at(0).get(), start, static_cast<off_t>(slot.offset_bytes)));
      if (as_text(start) == kPoison) return ++deaths_ == 0;
    }
    const auto outcomes = check_batch(message->fds.at(0).get(), slots).value();
    const int fd = outcomes.get();
    const auto reply = ipc::encode_frame({ipc::kTypeReply, frame.header.request_id}, {});
    return channel.send(reply, std::span(&fd, 1), soon()).has_value();
  }

  static constexpr std::chrono::milliseconds kSlice{50};
  UniqueFd listening_;
  std::atomic<bool> stopping_ = false;
  std::atomic<int> deaths_ = 0;
  std::thread thread_;
};

class HeaderScannerTest : public ::testing::Test {
 protected:
  static ipc::Client::Options reader_at(const std::string& path) {
    ipc::Client::Options options;
    options.peer = "reader";
    options.lost = Reason::kReaderLost;
    options.connect = [path](Deadline deadline) { return ipc::connect_to(path, deadline); };
    return options;
  }
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }

  tests::TempDir folder_;
};

TEST_F(HeaderScannerTest, HeaderThatKillsTheReaderIsTheOnlyOneLost) {
  const MortalReader mortal(path("reader.sock"));
  ipc::Client client(reader_at(path("reader.sock")));
  HeaderScanner scanner(make_batch_reader(), client, FilesAllowed::kYes);
  std::vector<ScanItem> items;
  items.reserve(4);
  for (int i = 0; i < 4; ++i)
    items.push_back({make_device(path("disk" + std::to_string(i)), 1U << 20U), ""});
  write_at(items[2].device, 0, kPoison);

  const auto results = scanner.scan(items, soon());
  ASSERT_EQ(results.size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) {
    ASSERT_THAT(results[i], Succeeds());
    EXPECT_THAT(results[i]->header, FailsWith(i == 2 ? Reason::kReaderLost : Reason::kNotLuks2));
  }
  EXPECT_EQ(mortal.deaths(), 2) << "once in the batch, once alone";
}

TEST_F(HeaderScannerTest, WithoutAReaderNoHeaderIsBelieved) {
  ipc::Client client(reader_at(path("absent.sock")));
  HeaderScanner scanner(make_batch_reader(), client, FilesAllowed::kYes);
  const ScanItem item{make_device(path("disk"), 1U << 20U), ""};
  const auto results = scanner.scan(std::span(&item, 1), soon());
  ASSERT_THAT(results.at(0), Succeeds());
  EXPECT_THAT(results[0]->header, FailsWith(Reason::kReaderLost));
}

// Devices that do not answer: one whose open() does not come back until it is let go, and one that
// opens and then says nothing.
class DeadDevices {
 public:
  DeadDevices(std::string unopenable, std::string silent) {
    gate_->unopenable = std::move(unopenable);
    gate_->silent = std::move(silent);
    int ends[2] = {-1, -1};
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    gate_->pipe_read.reset(ends[0]);
    gate_->pipe_write.reset(ends[1]);
  }
  ~DeadDevices() { let_open(); }
  DeadDevices(const DeadDevices&) = delete;
  DeadDevices& operator=(const DeadDevices&) = delete;

  // It may be called and come back when *this is gone.
  HeaderScanner::Opener opener() const {
    return [gate = gate_](const std::string& path, FilesAllowed files) {
      if (path == gate->unopenable) {
        std::unique_lock lock(gate->mutex);
        ++gate->tried;
        gate->changed.wait(lock, [&] { return gate->open; });
      }
      auto device = open_device(path, files);
      if (device && path == gate->silent) device->fd.reset(::dup(gate->pipe_read.get()));
      return device;
    };
  }
  void let_open() {
    const std::lock_guard lock(gate_->mutex);
    gate_->open = true;
    gate_->changed.notify_all();
  }
  int tried() const {
    const std::lock_guard lock(gate_->mutex);
    return gate_->tried;
  }

 private:
  struct Gate {
    std::string unopenable;
    std::string silent;
    UniqueFd pipe_read;
    UniqueFd pipe_write;
    std::mutex mutex;  // Guards what follows.
    std::condition_variable changed;
    bool open = false;
    int tried = 0;
  };
  const std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
};

TEST_F(HeaderScannerTest, DeviceThatDoesNotAnswerCostsTheOthersNothing) {
  auto ring = make_ring_reader();
  if (!ring) GTEST_SKIP() << ring.error().str();
  const MortalReader reader(path("reader.sock"));
  ipc::Client client(reader_at(path("reader.sock")));
  std::vector<ScanItem> items;
  items.reserve(12);
  for (int i = 0; i < 12; ++i)
    items.push_back({make_device(path("disk" + std::to_string(i)), 1U << 20U), ""});
  DeadDevices dead(items[3].device, items[7].device);
  constexpr std::chrono::milliseconds kPatience{3000};
  HeaderScanner scanner(std::move(*ring), client, FilesAllowed::kYes, {kPatience, kPatience},
                        dead.opener());

  const auto expect_two_lost = [&](const std::vector<Result<HeaderScanner::Scanned>>& results) {
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i == 3) {
        EXPECT_THAT(results[i], FailsWith(Reason::kTimedOut));
        continue;
      }
      ASSERT_THAT(results[i], Succeeds());
      EXPECT_THAT(results[i]->header, FailsWith(i == 7 ? Reason::kTimedOut : Reason::kNotLuks2))
          << i;
    }
  };
  expect_two_lost(scanner.scan(items, soon()));

  // They are remembered: the next scan asks neither of them, and so does not wait.
  expect_two_lost(scanner.scan(items, soon()));
  EXPECT_EQ(dead.tried(), 1);

  // And they are asked again when they have come back.
  dead.let_open();
  auto again = scanner.scan({&items[3], 1}, soon());
  for (const auto patience = soon(); !again[0] && !patience.passed();)
    again = scanner.scan({&items[3], 1}, soon());
  ASSERT_THAT(again[0], Succeeds());
  EXPECT_THAT(again[0]->header, FailsWith(Reason::kNotLuks2));
}

// Its first batch lasts as long as it may, as when a disk in it says nothing.
class SlowAtFirstReader : public BatchReader {
 public:
  struct Seen {
    std::promise<void> first_began;
    std::chrono::milliseconds second_left{0};  // When the second batch began.
  };
  explicit SlowAtFirstReader(std::shared_ptr<Seen> seen) : seen_(std::move(seen)) {}

  void read(std::span<const BatchRead> reads, const Done& done, Deadline deadline) override {
    if (std::exchange(first_, false)) {
      seen_->first_began.set_value();
      while (!deadline.passed()) ::poll(nullptr, 0, static_cast<int>(deadline.left().count()) + 1);
      for (std::size_t i = 0; i < reads.size(); ++i) done(i, fail(Reason::kTimedOut, "silent"));
      return;
    }
    seen_->second_left = deadline.left();
    real_->read(reads, done, deadline);
  }
  std::string_view name() const noexcept override { return "slow"; }

 private:
  const std::shared_ptr<Seen> seen_;
  const std::unique_ptr<BatchReader> real_ = make_pread_reader();
  bool first_ = true;
};

TEST_F(HeaderScannerTest, ScanThatWaitedForAnotherOneHasItsWholeTimeToRead) {
  const MortalReader reader(path("reader.sock"));
  ipc::Client client(reader_at(path("reader.sock")));
  const auto seen = std::make_shared<SlowAtFirstReader::Seen>();
  constexpr std::chrono::milliseconds kPatience{2000};
  HeaderScanner scanner(std::make_unique<SlowAtFirstReader>(seen), client, FilesAllowed::kYes,
                        {kPatience, kPatience}, open_device);
  const ScanItem silent{make_device(path("silent"), 1U << 20U), ""};
  const ScanItem healthy{make_device(path("healthy"), 1U << 20U), ""};
  auto first =
      std::async(std::launch::async, [&] { return scanner.scan(std::span(&silent, 1), soon()); });
  seen->first_began.get_future().wait();

  const auto second = scanner.scan(std::span(&healthy, 1), soon());
  ASSERT_THAT(second[0], Succeeds());
  EXPECT_THAT(second[0]->header, FailsWith(Reason::kNotLuks2));
  EXPECT_GT(seen->second_left, kPatience / 2);
  const auto lost = first.get();
  ASSERT_THAT(lost[0], Succeeds());
  EXPECT_THAT(lost[0]->header, FailsWith(Reason::kTimedOut));
}

TEST_F(HeaderScannerTest, ManyDevicesThatDoNotOpenLeaveThreadsForTheOthers) {
  const MortalReader reader(path("reader.sock"));
  ipc::Client client(reader_at(path("reader.sock")));
  const DeadDevices dead("dead", "");
  std::vector<ScanItem> items;
  items.reserve(20);
  for (int i = 0; i < 20; ++i)
    items.push_back({make_device(path("disk" + std::to_string(i)), 1U << 20U), ""});
  const auto opener = [open = dead.opener()](const std::string& path, FilesAllowed files) {
    // disk0 to disk8 hang, more than there are threads at first.
    const bool hangs = path.back() != '9' && path[path.size() - 2] == 'k';
    if (hangs) static_cast<void>(open("dead", files).has_value());
    return open_device(path, files);
  };
  HeaderScanner scanner(make_batch_reader(), client, FilesAllowed::kYes,
                        {std::chrono::milliseconds(3000), std::chrono::milliseconds(3000)}, opener);
  const auto results = scanner.scan(items, soon());
  for (std::size_t i = 0; i < 9; ++i) EXPECT_THAT(results[i], FailsWith(Reason::kTimedOut)) << i;
  for (std::size_t i = 9; i < 20; ++i) EXPECT_THAT(results[i], Succeeds()) << i;
}

TEST_F(HeaderScannerTest, TwelveHundredDevicesAreOneBatch) {
  rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = std::min<rlim_t>(files.rlim_max, 4096);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &files), 0);
  if (files.rlim_cur < 2048) GTEST_SKIP() << "too few file descriptors are allowed";

  ipc::Server::Options options;
  options.name = "reader";
  ipc::Server server(options, [](ipc::Request& request) -> Result<ipc::Reply> {
    ipc::Reply reply;
    reply.fds.push_back(
        check_batch(request.fds.at(0).get(), decode_slots(request.body).value()).value());
    return reply;
  });
  ASSERT_THAT(server.listen(ipc::listen_at(path("reader.sock")).value()), Succeeds());
  ipc::Client client(reader_at(path("reader.sock")));
  // How long it takes is not the question: under a sanitizer on a busy machine it is half a minute.
  constexpr std::chrono::minutes kPatience{3};
  HeaderScanner scanner(make_batch_reader(), client, FilesAllowed::kYes, {kPatience, kPatience},
                        open_device);
  std::vector<ScanItem> items;
  items.reserve(1200);
  for (int i = 0; i < 1200; ++i)
    items.push_back({make_device(path("disk" + std::to_string(i)), 128U << 10U), ""});
  const auto results = scanner.scan(items, Deadline::after(3 * kPatience));
  std::size_t read = 0;
  for (const auto& result : results)
    if (result && !result->header && result->header.error().reason() == Reason::kNotLuks2) ++read;
  EXPECT_EQ(read, 1200U);
}

}  // namespace
}  // namespace coffer::agent
