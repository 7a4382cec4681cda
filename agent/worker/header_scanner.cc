// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/header_scanner.h"

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
    reads.push_back({source.fd.get(), 0, luks2::kReaderBytes});
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
  batch_reader_->read(reads, take, deadline);

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

std::vector<Result<HeaderScanner::Scanned>> HeaderScanner::scan(std::span<const ScanItem> items,
                                                                Deadline deadline) {
  const std::lock_guard lock(mutex_);
  std::vector<Result<Scanned>> results(items.size(), fail(Reason::kInternal, "not scanned"));
  std::vector<Batch> batches;
  for (std::size_t i = 0; i < items.size(); ++i) {
    auto held = std::make_shared<HeldDevice>();
    auto device = open_device(items[i].device, files_);
    if (!device) {
      results[i] = tl::unexpected(device.error());
      continue;
    }
    held->device = std::move(*device);
    if (!items[i].header_device.empty()) {
      auto header_device = open_device(items[i].header_device, files_);
      if (!header_device) {
        results[i] = pass(header_device.error(), "open the header device");
        continue;
      }
      held->header_device = std::move(*header_device);
    }
    if (batches.empty() || batches.back().entries.size() == kBatchHeadersMax)
      batches.emplace_back();
    batches.back().entries.push_back({i, std::move(held), {}, {}, {}});
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
