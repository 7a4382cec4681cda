// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/header_scanner.h"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <optional>
#include <utility>
#include <variant>

#include "agent/reader/header_batch.h"
#include "core/base/files.h"
#include "core/crypto/digest.h"

namespace coffer::agent {
namespace {

// How much one memfd holds at most: 512 headers of 128 KiB are 64 MiB.
constexpr std::size_t kBatchHeadersMax = 512;
constexpr std::chrono::seconds kReaderPatience{25};

Deadline sooner(Deadline a, Deadline b) {
  return a.at() < b.at() ? a : b;
}

// A part of the time until `deadline`, at most `patience`.
Deadline part_of(Deadline deadline, int parts, std::chrono::milliseconds patience) {
  return Deadline::after(std::min(deadline.left() / parts, patience));
}

// One number for one device, found without opening it; 0 where there is nothing.
std::uint64_t number_of(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return 0;
  return S_ISBLK(status.st_mode) ? status.st_rdev : status.st_ino;
}
std::uint64_t number_of(const OpenDevice& device) {
  return device.is_file() ? device.identity.sequence : device.number;
}

Error not_opened(DeviceCalls::End end, const std::string& path) {
  return {Reason::kTimedOut, end == DeviceCalls::End::kHangs
                                 ? path + " does not answer: it could not be opened"
                                 : "no time was left to open " + path};
}

Result<luks2::CheckedHeader> to_result(luks2::CheckOutcome outcome) {
  if (auto* header = std::get_if<luks2::CheckedHeader>(&outcome)) return std::move(*header);
  return tl::unexpected(std::get<luks2::Refusal>(outcome).error());
}

}  // namespace

// Headers on their way from the devices to the reader. Slots and `entries` go together.
struct HeaderScanner::Batch {
  struct Entry {
    std::size_t item = 0;  // In the scan.
    std::shared_ptr<HeldDevice> held;
    luks2::Sha256 sha256{};
    std::optional<Error> failed;  // Reading it, or the reader on it.
    std::optional<luks2::CheckOutcome> outcome;
  };
  std::vector<Entry> entries;
  std::vector<HeaderSlot> slots;
  UniqueFd memfd;
};

Result<void> HeaderScanner::read(Batch& batch, Deadline deadline) {
  auto memfd = make_memfd("coffer-headers", batch.entries.size() * luks2::kReaderBytes);
  if (!memfd) return pass(memfd.error(), "make room for headers");
  std::vector<BatchRead> reads;
  for (std::size_t i = 0; i < batch.entries.size(); ++i) {
    const auto& source = batch.entries[i].held->where_header_is();
    reads.push_back({source.fd.get(), 0, luks2::kReaderBytes, number_of(source)});
    batch.slots.push_back({i * luks2::kReaderBytes, 0, source.identity.size_bytes});
  }
  const auto take = [&](std::size_t i, Result<ByteView> bytes) {
    auto& entry = batch.entries[i];
    if (!bytes) {
      entry.failed =
          pass(bytes.error(), "read the header of " + entry.held->device.identity.node).value();
      return;
    }
    entry.held->image = HeaderImage(*bytes);
    entry.sha256 = crypto::sha256(*bytes);
    batch.slots[i].length_bytes = static_cast<std::uint32_t>(bytes->size());
    const auto copied = entry.held->image.write_to(memfd->get(), batch.slots[i].offset_bytes);
    if (!copied) entry.failed = copied.error();
  };
  {
    const std::unique_lock lock(mutex_, deadline.at());
    if (!lock) return fail(Reason::kTimedOut, "another scan took all the time");
    // Counted from here: the disks of an earlier scan take nothing from the time of these.
    batch_reader_->read(reads, take, part_of(deadline, 2, patience_.read));
  }

  // From here on nobody can change what will be judged.
  if (const auto sealed = seal_memfd(memfd->get()); !sealed) return sealed;
  batch.memfd = std::move(*memfd);
  return {};
}

Result<std::vector<luks2::CheckOutcome>> HeaderScanner::ask_reader(const Batch& batch,
                                                                   std::size_t first,
                                                                   std::size_t count,
                                                                   Deadline deadline) {
  const int memfd = batch.memfd.get();
  const auto body = encode_slots(std::span(batch.slots).subspan(first, count));
  const auto patience = sooner(deadline, Deadline::after(kReaderPatience));
  auto reply = reader_.call(kCheckHeaders, body, std::span(&memfd, 1), patience);
  if (!reply) return tl::unexpected(reply.error());
  if (reply->fds.size() != 1)
    return fail(Reason::kMessageInvalid, "the reader's answer has no outcomes");
  return read_outcomes(reply->fds.front().get(), count);
}

void HeaderScanner::parse(Batch& batch, Deadline deadline) {
  auto outcomes = ask_reader(batch, 0, batch.entries.size(), deadline);
  if (outcomes) {
    for (std::size_t i = 0; i < outcomes->size(); ++i)
      batch.entries[i].outcome = std::move((*outcomes)[i]);
    return;
  }
  // One of them ended the reader, or made it answer nonsense: find out which.
  for (std::size_t i = 0; i < batch.entries.size(); ++i) {
    auto& entry = batch.entries[i];
    if (entry.failed) continue;
    auto alone = ask_reader(batch, i, 1, deadline);
    if (alone)
      entry.outcome = std::move(alone->front());
    else
      entry.failed = Error(Reason::kReaderLost, "the reader gave up on the header of " +
                                                    entry.held->where_header_is().identity.node +
                                                    ": " + alone.error().str());
  }
}

std::vector<HeaderScanner::Opened> HeaderScanner::open(std::span<const ScanItem> items,
                                                       Deadline deadline) {
  // Two calls per item, for a device and its header device; the second one may have nothing to do.
  std::vector<DeviceCalls::Call> calls;
  std::vector<std::shared_ptr<std::optional<Result<OpenDevice>>>> opened;
  const auto add = [&](const std::string& path) {
    auto& place = opened.emplace_back(std::make_shared<std::optional<Result<OpenDevice>>>());
    if (path.empty())
      calls.push_back({0, [] {}});
    else
      calls.push_back({number_of(path), [place, path, files = files_, opener = opener_] {
                         place->emplace(opener(path, files));
                       }});
  };
  for (const auto& item : items) {
    add(item.device);
    add(item.header_device);
  }
  const auto ends = calls_.make(std::move(calls), deadline);

  std::vector<Opened> results;
  results.reserve(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    const auto device_end = ends[2 * i];
    const auto header_end = ends[2 * i + 1];
    const bool detached = !items[i].header_device.empty();
    if (device_end != DeviceCalls::End::kDone) {
      results.emplace_back(tl::unexpected(not_opened(device_end, items[i].device)));
    } else if (detached && header_end != DeviceCalls::End::kDone) {
      results.emplace_back(tl::unexpected(not_opened(header_end, items[i].header_device)));
    } else if (auto& device = **opened[2 * i]; !device) {
      results.emplace_back(tl::unexpected(device.error()));
    } else if (auto& header = *opened[2 * i + 1]; detached && !*header) {
      results.emplace_back(pass(header->error(), "open the header device"));
    } else {
      auto held = std::make_shared<HeldDevice>();
      held->device = std::move(*device);
      if (detached) held->header_device = std::move(**header);
      results.emplace_back(std::move(held));
    }
  }
  return results;
}

std::vector<Result<HeaderScanner::Scanned>> HeaderScanner::scan(std::span<const ScanItem> items,
                                                                Deadline deadline) {
  std::vector<Result<Scanned>> results(items.size(), fail(Reason::kInternal, "not scanned"));
  std::vector<Batch> batches;
  auto opened = open(items, part_of(deadline, 3, patience_.open));
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (!opened[i]) {
      results[i] = tl::unexpected(opened[i].error());
      continue;
    }
    if (batches.empty() || batches.back().entries.size() == kBatchHeadersMax)
      batches.emplace_back();
    batches.back().entries.push_back({i, std::move(*opened[i]), {}, {}, {}});
  }

  for (auto& batch : batches) {
    const auto got = read(batch, deadline);
    if (got) parse(batch, deadline);
    for (auto& entry : batch.entries) {
      Scanned scanned;
      if (!got)
        scanned.header = tl::unexpected(got.error());
      else if (entry.failed)
        scanned.header = tl::unexpected(*entry.failed);
      else
        scanned.header = to_result(std::move(*entry.outcome));
      if (scanned.header) entry.held->header = *scanned.header;
      scanned.header_sha256 = entry.sha256;
      scanned.held = std::move(entry.held);
      results[entry.item] = std::move(scanned);
    }
  }
  return results;
}

}  // namespace coffer::agent
