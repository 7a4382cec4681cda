// SPDX-License-Identifier: Apache-2.0
#include "hsm/token_link.h"

#include <array>
#include <utility>

#include "core/base/files.h"
#include "hsm/pkcs11_errors.h"
#include "hsm/pkcs11_template.h"
#include "hsm/token_login.h"

namespace coffer::hsm {
namespace {

constexpr std::size_t kPinBytesMax = 255;

Result<SecretBytes> read_pin(const std::string& path) {
  auto pin = read_secret_file(path, kPinBytesMax + 2);
  if (!pin)
    return fail(Reason::kHsmLoginNeeded, "read the PIN's credential: " + pin.error().message());
  auto size = pin->size();
  while (size > 0 &&
         (pin->reveal()[size - 1] == std::byte{'\n'} || pin->reveal()[size - 1] == std::byte{'\r'}))
    --size;
  pin->shrink(size);
  if (size == 0 || size > kPinBytesMax)
    return fail(Reason::kHsmLoginNeeded, "the PIN's credential " + path + " holds no PIN");
  return pin;
}

CK_RV make_probe_key(const ObjectAccess& access, CK_OBJECT_HANDLE& out) {
  Template wanted;
  wanted.number(CKA_CLASS, CKO_SECRET_KEY).number(CKA_KEY_TYPE, CKK_AES);
  wanted.flag(CKA_TOKEN, false).flag(CKA_PRIVATE, true).flag(CKA_SENSITIVE, true);
  wanted.flag(CKA_EXTRACTABLE, false).flag(CKA_ENCRYPT, true).flag(CKA_DECRYPT, true);
  wanted.flag(CKA_WRAP, false).flag(CKA_UNWRAP, false).number(CKA_VALUE_LEN, 32);
  CK_MECHANISM mechanism{CKM_AES_KEY_GEN, nullptr, 0};
  const std::scoped_lock lock(access.objects);
  return access.module.call(&CK_FUNCTION_LIST::C_GenerateKey, access.owner, &mechanism,
                            wanted.data(), wanted.size(), &out);
}

}  // namespace

TokenLink::TokenLink(Options options, std::function<void()> on_lost)
    : options_(std::move(options)),
      on_lost_(std::move(on_lost)),
      pin_mark_(options_.pin_mark_file),
      pause_(options_.reconnect_pause, *options_.clock) {}

TokenLink::~TokenLink() {
  disconnect(true);
}

bool TokenLink::connected() {
  const std::shared_lock together(gate_);
  return facts_ != nullptr;
}

std::uint64_t TokenLink::failures() const {
  return pause_.failures();
}

Result<void> TokenLink::run(std::string_view step, const Work& work) {
  bool reopened = false;
  bool probed = false;
  for (;;) {
    if (const auto ready = connect_if_needed(false); !ready) return pass(ready.error(), step);
    const auto made = attempt(work);
    if (made.rv == CKR_OK) return {};
    if (made.moved_on) reopened = probed = false;
    pause_.count_failure();
    switch (return_info(made.rv).reaction) {
      case Reaction::kReopenAndRepeat:
        if (std::exchange(reopened, true)) break;
        if (const auto again = reopen(made.generation); !again) return pass(again.error(), step);
        continue;
      case Reaction::kReload:
        disconnect_from(made.generation);
        break;
      case Reaction::kProbeAndRepeat:
        if (!made.judged_data) {
          // Some modules say no more when their device has gone. A probe finds out, and what is
          // broken is connected anew by the next call.
          if (const auto well = probe(); !well) return pass(well.error(), step);
          break;
        }
        // Bad data and a broken token look alike. A token that does everything else, and gives the
        // same answer twice, has been given bad data.
        if (probed)
          return fail(Reason::kBlobInvalid, std::string(step) + ": authentication failed");
        probed = true;
        if (const auto well = probe(); !well) return pass(well.error(), step);
        continue;
      default:
        break;
    }
    return fail_return(made.rv, step);
  }
}

TokenLink::Attempt TokenLink::attempt(const Work& work) {
  const std::shared_lock together(gate_);
  Attempt made;
  made.generation = generation_;
  if (!facts_) {
    made.rv = CKR_TOKEN_NOT_PRESENT;
    return made;
  }
  SessionPool::Lease lease;
  made.rv = pool_->take(lease);
  if (made.rv != CKR_OK) return made;
  made.rv = work({*module_,
                  lease.handle(),
                  {*module_, pool_->owner(), objects_},
                  *facts_,
                  made.judged_data,
                  made.moved_on});
  if (made.rv != CKR_OK) lease.spoil();
  return made;
}

void TokenLink::disconnect_from(std::uint64_t generation) {
  const std::unique_lock alone(gate_);
  if (generation_ == generation) disconnect(true);
}

Result<TokenLink::FactsPtr> TokenLink::facts() {
  if (const auto ready = connect_if_needed(false); !ready) return tl::unexpected(ready.error());
  const std::shared_lock together(gate_);
  if (!facts_) return fail(Reason::kHsmAbsent, "the token went away");
  return facts_;
}

Result<TokenLink::FactsPtr> TokenLink::probe() {
  if (const auto ready = connect_if_needed(true); !ready) return tl::unexpected(ready.error());
  for (bool reopened = false;;) {
    const auto made = attempt([this](const Session& session) { return probe_calls(session); });
    if (made.rv == CKR_OK) return facts();
    const auto reaction = return_info(made.rv).reaction;
    if (reaction == Reaction::kReload || reaction == Reaction::kProbeAndRepeat)
      disconnect_from(made.generation);
    if (reaction != Reaction::kReopenAndRepeat || std::exchange(reopened, true))
      return fail_return(made.rv, "probe the token");
    if (const auto again = reopen(made.generation); !again) return tl::unexpected(again.error());
  }
}

CK_RV TokenLink::probe_calls(const Session& session) const {
  const auto& module = session.module;
  TokenSlot now;
  CK_RV rv = module.read_token(session.facts.token.slot, now);
  if (rv != CKR_OK) return rv;
  // Another token in the same slot is not ours.
  if (now.identity.serial != session.facts.token.identity.serial) return CKR_TOKEN_NOT_PRESENT;

  std::array<std::byte, 16> text{};
  rv = module.call(&CK_FUNCTION_LIST::C_GenerateRandom, session.handle, p11_bytes(text),
                   CK_ULONG{text.size()});
  if (rv != CKR_OK) return rv;

  std::array<std::byte, 16> iv{};
  CK_MECHANISM mechanism{CKM_AES_CBC, iv.data(), iv.size()};
  std::array<std::byte, 16> coded{};
  CK_ULONG size = coded.size();
  rv = module.call(&CK_FUNCTION_LIST::C_EncryptInit, session.handle, &mechanism,
                   session.facts.probe_key);
  if (rv != CKR_OK) return rv;
  rv = module.call(&CK_FUNCTION_LIST::C_Encrypt, session.handle, p11_bytes(text),
                   CK_ULONG{text.size()}, p11_bytes(coded), &size);
  if (rv != CKR_OK) return rv;
  std::array<std::byte, 16> back{};
  size = back.size();
  rv = module.call(&CK_FUNCTION_LIST::C_DecryptInit, session.handle, &mechanism,
                   session.facts.probe_key);
  if (rv != CKR_OK) return rv;
  rv = module.call(&CK_FUNCTION_LIST::C_Decrypt, session.handle, p11_bytes(coded),
                   CK_ULONG{coded.size()}, p11_bytes(back), &size);
  if (rv != CKR_OK) return rv;
  if (back != text) return CKR_FUNCTION_FAILED;

  CK_MECHANISM hmac{CKM_SHA256_HMAC, nullptr, 0};
  std::array<std::byte, 32> mac{};
  size = mac.size();
  rv = module.call(&CK_FUNCTION_LIST::C_SignInit, session.handle, &hmac, session.facts.keys.seal);
  if (rv != CKR_OK) return rv;
  return module.call(&CK_FUNCTION_LIST::C_Sign, session.handle, p11_bytes(text),
                     CK_ULONG{text.size()}, p11_bytes(mac), &size);
}

Result<void> TokenLink::connect_if_needed(bool at_once) {
  {
    const std::shared_lock together(gate_);
    if (facts_) return {};
  }
  const std::unique_lock alone(gate_);
  if (facts_) return {};
  const auto now = options_.clock->steady();
  if (!at_once) {
    if (const auto may = pause_.may_try(); !may) return may;
  }
  const auto connected = connect();
  if (!connected) disconnect(true);
  pause_.tried(now, connected);
  return connected;
}

Result<void> TokenLink::connect() {
  if (!module_) {
    auto loaded = Pkcs11Module::load(options_.module_path, options_.watch);
    if (!loaded) return tl::unexpected(loaded.error());
    module_ = std::move(*loaded);
  }
  if (!module_->initialized() && options_.before_initialize) {
    if (const auto prepared = options_.before_initialize(); !prepared)
      return fail(Reason::kHsmAbsent, prepared.error().str());
  }
  if (const CK_RV rv = module_->initialize(); rv != CKR_OK)
    return fail_return(rv, "initialise the PKCS#11 module");
  const auto token = module_->find_token(options_.uri);
  if (!token) return tl::unexpected(token.error());
  return read_facts(*token);
}

Result<void> TokenLink::read_facts(const TokenSlot& token) {
  auto pool = std::make_unique<SessionPool>(*module_, token.slot, options_.sessions_max);
  if (const CK_RV rv = pool->open(); rv != CKR_OK) return fail_return(rv, "open a session");
  pool_ = std::move(pool);

  if (const auto in = log_in(token); !in) return in;

  Facts facts;
  facts.token = token;
  facts.is_tpm = module_->is_of_tpm();
  if (const CK_RV rv = module_->list_mechanisms(token.slot, facts.mechanisms); rv != CKR_OK)
    return fail_return(rv, "list the token's mechanisms");
  const ObjectAccess access{*module_, pool_->owner(), objects_};
  const auto keys = find_safe_keys(access);
  if (!keys) return tl::unexpected(keys.error());
  facts.keys = *keys;
  auto root_id = read_root_id(access, *keys);
  if (!root_id) return tl::unexpected(root_id.error());
  facts.root_id = std::move(*root_id);
  if (keys->form == RootForm::kEncrypts) {
    facts.probe_key = keys->root;
  } else if (const CK_RV rv = make_probe_key(access, facts.probe_key); rv != CKR_OK) {
    return fail_return(rv, "make the probe key");
  }
  facts_ = std::make_shared<const Facts>(std::move(facts));
  ++generation_;
  return {};
}

Result<void> TokenLink::log_in(const TokenSlot& before) {
  // What the token says now, not when it was found: another login may have failed meanwhile.
  const auto tries = look_at_tries(*module_, before.slot);
  if (!tries) return tl::unexpected(tries.error());
  if (*tries == PinTries::kNotNeeded) return {};
  const auto pin = read_pin(options_.pin_file);
  if (!pin) return tl::unexpected(pin.error());
  return log_in_once(*module_, pool_->owner(), *tries, *pin, pin_mark_);
}

void TokenLink::disconnect(bool finalize) {
  const bool had = facts_ != nullptr;
  facts_.reset();
  if (had) on_lost_();
  if (pool_) pool_.reset();
  if (finalize && module_) module_->finalize();
}

Result<void> TokenLink::reopen(std::uint64_t seen_generation) {
  const std::unique_lock alone(gate_);
  if (generation_ != seen_generation && facts_) return {};  // Somebody else did.
  disconnect(false);
  auto again = connect();
  if (!again) disconnect(true);
  pause_.tried(options_.clock->steady(), again);
  return again;
}

}  // namespace coffer::hsm
