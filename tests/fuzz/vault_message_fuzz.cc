// SPDX-License-Identifier: Apache-2.0
// What a vault process and its client take from each other: the first byte says which message the
// rest is.
#include "hsm/setup_protocol.h"
#include "hsm/vault_protocol.h"
#include "tests/fuzz/fuzz_check.h"

namespace {

using namespace coffer;

// A list that was taken has as many results as were asked for.
template <class Results>
void check_count(const Results& results, std::size_t count) {
  if (results) fuzz::require(results->size() == count);
}

// What stands in front of each of the requests.
void timed(ByteView message) {
  const auto taken = hsm::decode_request_time(message);
  fuzz::require(taken.has_value() == (message.size() >= 4));
  if (!taken) return;
  fuzz::require(taken->time >= std::chrono::milliseconds(0) && taken->time <= hsm::kRequestTimeMax);
  fuzz::require(std::ranges::equal(taken->body, message.subspan(4)));
  const auto again = hsm::encode_request_time(taken->time);
  const bool cut = taken->time == hsm::kRequestTimeMax;
  fuzz::require(cut || std::ranges::equal(again, message.first(4)));
}

void later_requests(std::uint8_t kind, ByteView body) {
  switch (kind) {
    case 10:
      (void)hsm::decode_rewrap(body);
      break;
    case 11:
      (void)hsm::decode_sign(body);
      break;
    case 12:
      (void)hsm::decode_decrypt(body);
      break;
    case 13:
      if (const auto taken = hsm::decode_prepare_import(body)) {
        const auto again = hsm::encode_prepare_import(taken->record, taken->wrapping);
        fuzz::require(std::ranges::equal(again, body));
      }
      break;
    case 14:
      if (const auto taken = hsm::decode_import(body))
        fuzz::require(std::ranges::equal(hsm::encode_import(taken->record, taken->material), body));
      break;
    case 15:
      if (const auto taken = hsm::decode_shared_request(body))
        fuzz::require(std::ranges::equal(hsm::encode_shared_request(*taken), body));
      break;
    default:
      break;
  }
}

void requests(std::uint8_t kind, ByteView body) {
  switch (kind) {
    case 1:
      if (const auto taken = hsm::decode_parameters(body))
        fuzz::require(std::ranges::equal(hsm::encode_parameters(*taken), body));
      break;
    case 2:
      if (const auto taken = hsm::decode_change(body))
        fuzz::require(std::ranges::equal(hsm::encode_change(taken->record, taken->change), body));
      break;
    case 4:
      (void)hsm::decode_wrap(body);
      break;
    case 5:
      (void)hsm::decode_unwrap(body);
      break;
    case 6:
      (void)hsm::decode_make_deks(body);
      break;
    case 7:
      if (const auto taken = hsm::decode_deliver(body))
        fuzz::require(taken->keys.size() == taken->indexes.size());
      break;
    case 8:
      (void)hsm::decode_random(body);
      break;
    case 9:
      timed(body);
      break;
    default:
      later_requests(kind, body);
  }
}

void answers(std::uint8_t kind, ByteView body) {
  const std::size_t count = kind % 8U;
  switch (kind / 8U) {
    case 2:
      check_count(hsm::decode_wrapped_results(body, count), count);
      break;
    case 3:
      check_count(hsm::decode_void_results(body, count), count);
      break;
    case 4:
      check_count(hsm::decode_secret_results(body, count), count);
      break;
    case 5:
      if (const auto taken = hsm::decode_health(body))
        fuzz::require(hsm::decode_health(hsm::encode_health(*taken)).has_value());
      break;
    case 6:
      (void)hsm::decode_setup(body);
      break;
    case 7:
      (void)hsm::decode_setup_answer(body);
      break;
    case 8:
      check_count(hsm::decode_signatures(body, count), count);
      break;
    case 9:
      if (const auto taken = hsm::decode_import_parameters(body))
        fuzz::require(std::ranges::equal(hsm::encode_import_parameters(*taken), body));
      break;
    case 10:
      if (const auto taken = hsm::decode_shared_dek(body))
        fuzz::require(std::ranges::equal(hsm::encode_shared_dek(*taken), body));
      break;
    default:
      break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto body = fuzz::input(data + 1, size - 1);
  if (data[0] < 16)
    requests(data[0], body);
  else
    answers(data[0], body);
  return 0;
}
