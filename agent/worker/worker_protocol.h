// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "agent/worker/worker.h"
#include "core/base/bytes.h"
#include "core/base/result.h"

namespace coffer::agent {

// The requests that cofferd sends over the socket `control`, in frames of core/ipc/frame.h. What
// may be long (lists of devices, keys, mappings) travels in a sealed memfd beside the frame, the
// rest in its body; docs/formats/ipc.md. No key is ever part of one.
enum class WorkerRequest : std::uint16_t {
  kScan = 1,             // memfd: items.            -> memfd: results
  kRelease = 2,          // handles
  kExpect = 3,           // ticket; memfd: keys
  kWait = 4,             // ticket, count seen       -> outcomes, finished
  kCancel = 5,           // ticket
  kListMappings = 6,     //                          -> memfd: mappings
  kDeactivate = 7,       // mapping, volume, mode
  kCleanMappings = 8,    //                          -> memfd: mappings
  kCheckEmpty = 9,       // handle                   -> emptiness
  kBuildHeader = 10,     // ticket, index, label, token  -> built header
  kWriteHeader = 11,     // ticket, index, confirmation
  kCheckWritten = 12,    // handle, print            -> presence
  kWipeHeader = 13,      // handle, print            -> presence before
  kMakeFileSystem = 14,  // mapping, volume, type, label
  kReplaceToken = 15     // handle, token
};

inline constexpr std::size_t kListBytesMax = std::size_t{160} << 20U;  // Of a memfd.
inline constexpr std::size_t kReleaseMax = 4096;
inline constexpr std::size_t kOutcomesPerReply = 32;
inline constexpr std::size_t kMappingsMax = 65536;
inline constexpr std::size_t kTextBytesMax = 2048;
// How long one kWait may take before it answers with nothing new: it holds a thread of the worker.
inline constexpr std::chrono::milliseconds kWaitSlice{1000};

struct WaitReply {
  std::vector<KeyOutcome> outcomes;
  bool finished = false;
};

// Every value has a put() and a get() that are each other's inverse; get() makes `in` bad where the
// bytes are not what put() makes.
void put(ByteWriter& out, const ScanItem& value);
void put(ByteWriter& out, const Result<ScannedDevice>& value);
void put(ByteWriter& out, const ExpectedKey& value);
void put(ByteWriter& out, const KeyOutcome& value);
void put(ByteWriter& out, const WaitReply& value);
void put(ByteWriter& out, const Mapping& value);
void put(ByteWriter& out, const Emptiness& value);
void put(ByteWriter& out, const BuiltHeader& value);
void put(ByteWriter& out, const keyring::Ticket& value);
void put(ByteWriter& out, const VolumeId& value);

ScanItem get_scan_item(ByteReader& in);
Result<ScannedDevice> get_scanned(ByteReader& in);
ExpectedKey get_expected(ByteReader& in);
KeyOutcome get_outcome(ByteReader& in);
WaitReply get_wait_reply(ByteReader& in);
Mapping get_mapping(ByteReader& in);
Emptiness get_emptiness(ByteReader& in);
BuiltHeader get_built(ByteReader& in);
keyring::Ticket get_ticket(ByteReader& in);
std::optional<VolumeId> get_volume(ByteReader& in);
HeaderPresence get_presence(ByteReader& in);

template <class T>
Bytes encode_list(std::span<const T> values) {
  ByteWriter out;
  out.u32(static_cast<std::uint32_t>(values.size()));
  for (const auto& value : values) put(out, value);
  return out.take();
}

// kMessageInvalid: not a list that encode_list() made, or more than `count_max`.
template <class T>
Result<std::vector<T>> decode_list(ByteView bytes, std::size_t count_max, T (*get)(ByteReader&)) {
  ByteReader in(bytes);
  const auto count = in.count(count_max, 1);
  std::vector<T> values;
  values.reserve(count);
  for (std::size_t i = 0; i < count && in.good(); ++i) values.push_back(get(in));
  if (const auto end = in.finish(Reason::kMessageInvalid, "a list"); !end)
    return tl::unexpected(end.error());
  return values;
}

}  // namespace coffer::agent
