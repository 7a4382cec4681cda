// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/key_trial.h"

#include <vector>

namespace coffer::keyring {
namespace {

constexpr std::size_t kTrialKeyBytes = 32;

// Of another purpose than a volume's key, which the vault would deliver and never return.
KeyContext trial_context(const std::string& host_id) {
  KeyContext context;
  context.purpose = Purpose::kEnvelopeData;
  context.host_scope = host_id;
  context.cipher = "provider-test";
  context.key_bytes = kTrialKeyBytes;
  return context;
}

}  // namespace

Result<std::chrono::microseconds> try_key(Keyring& keyring, const CmkId& cmk,
                                          const std::string& host_id, const audit::Actor& actor,
                                          const Clock& clock) {
  const SteadyTime began = clock.steady();
  std::vector<KeyVault::Plain> plain(1);
  auto key = SecretBytes::random(kTrialKeyBytes);
  if (!key) return pass(key.error(), "draw a key to test with");
  plain[0].key = std::move(*key);
  plain[0].context = trial_context(host_id);

  auto wrapped = keyring.wrap(cmk, plain, actor);
  if (!wrapped.front()) return pass(wrapped.front().error(), "wrap a key under " + cmk.str());
  const Presented presented{std::move(*wrapped.front()), plain[0].context};
  const auto unwrapped = keyring.unwrap(std::span(&presented, 1), actor);
  if (!unwrapped.front()) {
    return pass(unwrapped.front().error(), "unwrap the key that was just wrapped");
  }
  if (!equal_constant_time(unwrapped.front()->reveal(), plain[0].key.reveal())) {
    return fail(Reason::kHsmFailed, "the token unwrapped another key than it had wrapped");
  }
  return std::chrono::duration_cast<std::chrono::microseconds>(clock.steady() - began);
}

}  // namespace coffer::keyring
