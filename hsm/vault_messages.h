// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/ipc/client.h"
#include "hsm/vault_client.h"
#include "hsm/vault_protocol.h"

// How VaultClient splits a call into messages that fit, for its own source.
namespace coffer::hsm::vault_messages {

template <class T>
std::vector<Result<T>> all_fail(std::size_t count, const Error& error) {
  std::vector<Result<T>> results;
  results.reserve(count);
  for (std::size_t i = 0; i < count; ++i) results.emplace_back(tl::unexpected(error));
  return results;
}

// One key of a call: what it takes in a message and in the answer, or why it is not sent at all.
struct Item {
  Bytes encoded;
  std::size_t request_bytes = 0;
  std::size_t answer_bytes = 0;
  std::optional<Error> refused;
};

// A message with several items.
struct Batch {
  std::vector<std::size_t> items;  // Their places in the call, ascending.
};

struct Limits {
  std::size_t head_bytes;
  bool contiguous;  // A message has no gaps.
  std::size_t items_max;
};

// The first of `waiting` that go into one message.
inline Batch first_batch(std::span<const Item> items, std::span<const std::size_t> waiting,
                         const Limits& limits) {
  Batch batch;
  std::size_t request = limits.head_bytes;
  std::size_t answer = 4;
  for (const std::size_t i : waiting) {
    request += items[i].request_bytes;
    answer += items[i].answer_bytes + kResultOverheadBytes;
    const bool joins =
        batch.items.empty() ||
        (batch.items.size() < limits.items_max && request <= ipc::kFrameBodyBytesMax &&
         answer <= ipc::kFrameBodyBytesMax && (!limits.contiguous || batch.items.back() + 1 == i));
    if (!joins) break;
    batch.items.push_back(i);
  }
  return batch;
}

// One result for each item: of those that are not sent why, of the others until they were asked
// for that the time was over.
template <class T>
std::vector<Result<T>> unasked(std::span<const Item> items, std::vector<std::size_t>& waiting) {
  std::vector<Result<T>> results;
  results.reserve(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (!items[i].refused) waiting.push_back(i);
    results.emplace_back(tl::unexpected(
        items[i].refused
            ? *items[i].refused
            : Error(Reason::kHsmTimeout, "the time was over before it was asked for")));
  }
  return results;
}

// Puts what a message gave into the results of its call, and what the vault had no time for back
// to those that wait. Whether the vault was silent: who does not answer one message is not asked
// again, each time for as long.
template <class T>
bool settle(const Batch& batch, Result<std::vector<Result<T>>> some,
            std::vector<Result<T>>& results, std::vector<std::size_t>& waiting) {
  const bool silent = !some && some.error().reason() == Reason::kHsmTimeout;
  if (!some) some = all_fail<T>(batch.items.size(), some.error());
  std::vector<std::size_t> again;
  for (std::size_t k = 0; k < batch.items.size(); ++k) {
    // The vault's time was over before this key's turn: it goes into the next message.
    const bool begun = (*some)[k] || (*some)[k].error().reason() != Reason::kHsmTimeout;
    if (!begun && !silent) again.push_back(batch.items[k]);
    results[batch.items[k]] = std::move((*some)[k]);
  }
  waiting.insert(waiting.begin(), again.begin(), again.end());
  return silent;
}

inline Batch take_batch(std::span<const Item> items, std::vector<std::size_t>& waiting,
                        const Limits& limits) {
  Batch batch = first_batch(items, waiting, limits);
  waiting.erase(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(batch.items.size()));
  return batch;
}

// Asks for the items, message by message, until none is left or the deadline has passed. `send`
// gives one result per item of its message.
template <class T, class Send>
std::vector<Result<T>> in_messages(std::span<const Item> items, const Limits& limits,
                                   Deadline deadline, const Send& send) {
  std::vector<std::size_t> waiting;
  auto results = unasked<T>(items, waiting);
  while (!waiting.empty() && !deadline.passed()) {
    const Batch batch = take_batch(items, waiting, limits);
    Result<std::vector<Result<T>>> some = send(batch);
    const auto error = some ? std::nullopt : std::optional<Error>(some.error());
    if (!settle(batch, std::move(some), results, waiting)) continue;
    for (const auto i : waiting) results[i] = tl::unexpected(*error);
    break;
  }
  return results;
}

// The same with several messages under way: `send` sends one, `receive` gives its results. A key
// is put into its form, by `prepare`, when a message is filled up with it: the vault works on those
// before it meanwhile. The first message is short, so that it begins soon.
template <class T, class Prepare, class Send, class Receive>
std::vector<Result<T>> in_messages_ahead(std::vector<Item>& items, Limits limits, Deadline deadline,
                                         const Prepare& prepare, const Send& send,
                                         const Receive& receive) {
  auto results = all_fail<T>(
      items.size(), Error(Reason::kHsmTimeout, "the time was over before it was asked for"));
  std::vector<std::size_t> waiting;  // In their form and not sent.
  std::size_t prepared = 0;          // Those before it are in their form.
  const auto fill_up = [&] {
    for (; waiting.size() < limits.items_max && prepared < items.size(); ++prepared) {
      items[prepared] = prepare(prepared);
      if (items[prepared].refused) {
        results[prepared] = tl::unexpected(*items[prepared].refused);
      } else {
        waiting.push_back(prepared);
      }
    }
    return !waiting.empty();
  };
  std::deque<std::pair<Batch, Result<ipc::Client::Sent>>> under_way;
  std::optional<Error> silent;
  limits.items_max = VaultClient::kKeysFirstMax;
  for (;;) {
    while (!silent && !deadline.passed() && under_way.size() < VaultClient::kMessagesAheadMax &&
           fill_up()) {
      Batch batch = take_batch(items, waiting, limits);
      auto sent = send(batch);
      under_way.emplace_back(std::move(batch), std::move(sent));
      limits.items_max = VaultClient::kKeysAheadMax;
    }
    if (under_way.empty()) break;
    auto [batch, sent] = std::move(under_way.front());
    under_way.pop_front();
    auto some = receive(batch, std::move(sent));
    const auto error = some ? std::nullopt : std::optional<Error>(some.error());
    if (settle(batch, std::move(some), results, waiting)) silent = error;
  }
  if (silent) {
    for (const auto i : waiting) results[i] = tl::unexpected(*silent);
    for (auto i = prepared; i < items.size(); ++i) results[i] = tl::unexpected(*silent);
  }
  // So a caller finds all that is to be asked for with a newer record behind the first.
  const auto superseded = std::ranges::find_if(results, [](const auto& result) {
    return !result && result.error().reason() == Reason::kRecordSuperseded;
  });
  if (superseded != results.end()) {
    const Error error = superseded->error();
    for (auto at = superseded; at != results.end(); ++at) *at = tl::unexpected(error);
  }
  return results;
}

}  // namespace coffer::hsm::vault_messages
