// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "agent/reader/header_batch.h"
#include "agent/worker/one_shot.h"
#include "agent/worker/worker_protocol.h"
#include "tests/fuzz/fuzz_check.h"

namespace coffer::agent {
namespace {

// What is taken is canonical: it encodes to the very bytes it came from.
template <class T>
void list(ByteView in, T (*get)(ByteReader&)) {
  const auto values = decode_list<T>(in, kScanItemsMax, get);
  if (!values) return;
  fuzz::require(std::ranges::equal(encode_list(std::span<const T>(*values)), in));
}

template <class T>
void one(ByteView in, T (*get)(ByteReader&)) {
  ByteReader reader(in);  // NOLINT(misc-const-correctness): `get` reads on.
  const auto value = get(reader);
  if (!reader.finish(Reason::kMessageInvalid, "value")) return;
  ByteWriter out;
  put(out, value);
  fuzz::require(std::ranges::equal(out.view(), in));
}

void slots(ByteView in) {
  const auto taken = decode_slots(in);
  if (taken) fuzz::require(std::ranges::equal(encode_slots(*taken), in));
}

void one_shot(ByteView in) {
  const auto request = OneShotRequest::decode(in);
  if (request) fuzz::require(std::ranges::equal(request->encode(), in));
}

}  // namespace
}  // namespace coffer::agent

// The first byte chooses the message, the rest is the message.
// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  using namespace coffer::agent;
  if (size == 0) return 0;
  const auto in = fuzz::input(data, size).subspan(1);
  switch (data[0] % 9) {
    case 0:
      list(in, get_scan_item);
      break;
    case 1:
      list(in, get_scanned);
      break;
    case 2:
      list(in, get_expected);
      break;
    case 3:
      list(in, get_mapping);
      break;
    case 4:
      one(in, get_wait_reply);
      break;
    case 5:
      one(in, get_emptiness);
      break;
    case 6:
      one(in, get_built);
      break;
    case 7:
      slots(in);
      break;
    default:
      one_shot(in);
      break;
  }
  return 0;
}
