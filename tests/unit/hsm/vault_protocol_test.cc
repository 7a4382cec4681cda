// SPDX-License-Identifier: Apache-2.0
#include "hsm/vault_protocol.h"

#include <gtest/gtest.h>

#include <functional>

#include "core/keyring/import_limits.h"
#include "hsm/setup_protocol.h"
#include "hsm/vault_server.h"
#include "tests/support/result_matchers.h"

namespace coffer::hsm {
namespace {

using keyring::KeyContext;
using keyring::Presented;
using keyring::WrappedKey;
using tests::FailsWith;
using tests::Succeeds;

KeyContext context_of(keyring::Purpose purpose) {
  KeyContext context;
  context.purpose = purpose;
  if (purpose == keyring::Purpose::kVolumeKey) context.volume = *VolumeId::random();
  context.cipher = "aes-xts-plain64";
  context.key_bytes = 64;
  return context;
}

Presented presented_of(keyring::Purpose purpose) {
  const WrappedKey blob{
      keyring::KekProfile::kAesGcm, *CmkId::random(),        1,
      Bytes(12, std::byte{1}),      Bytes(64, std::byte{2}), Bytes(16, std::byte{3})};
  return {blob, context_of(purpose)};
}

void append(Bytes& to, const Bytes& more) {
  to.insert(to.end(), more.begin(), more.end());
}

// Whatever is cut off or put behind is refused.
void expect_refuses_cuts(const Bytes& body, const std::function<bool(ByteView)>& takes) {
  ASSERT_TRUE(takes(body));
  for (std::size_t size = 0; size < body.size(); ++size)
    EXPECT_FALSE(takes(ByteView(body).first(size))) << size;
  Bytes longer = body;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(takes(longer));
}

TEST(VaultProtocolTest, RequestsComeBackAndCutOnesAreRefused) {
  const Bytes record(100, std::byte{9});
  keyring::CmkParameters parameters;
  parameters.alias = "default";
  parameters.description = "a key";
  parameters.id = *CmkId::random();
  expect_refuses_cuts(encode_parameters(parameters), [&](ByteView body) {
    const auto taken = decode_parameters(body);
    return taken && taken->alias == "default" && taken->id == parameters.id;
  });
  expect_refuses_cuts(encode_change(record, keyring::CmkChange::kRotate), [&](ByteView body) {
    const auto taken = decode_change(body);
    return taken && taken->record == record && taken->change == keyring::CmkChange::kRotate;
  });

  Bytes wrap = encode_keys_head(record, 1);
  append(wrap, encode_plain_head(context_of(keyring::Purpose::kEnvelopeData), 3));
  append(wrap, Bytes(3, std::byte{7}));
  expect_refuses_cuts(wrap, [&](ByteView body) {
    const auto taken = decode_wrap(body);
    return taken && taken->keys.size() == 1 && taken->keys[0].key.size() == 3;
  });

  const auto presented = presented_of(keyring::Purpose::kVolumeKey);
  Bytes unwrap = encode_keys_head(record, 2);
  append(unwrap, encode_presented(presented));
  append(unwrap, encode_presented(presented));
  expect_refuses_cuts(unwrap, [&](ByteView body) {
    const auto taken = decode_unwrap(body);
    return taken && taken->keys.size() == 2 && taken->keys[1].blob == presented.blob;
  });

  const std::uint32_t index = 5;
  keyring::Ticket ticket;
  ticket.fill(std::byte{4});
  Bytes deliver = encode_deliver_head(record, ticket, {&index, 1});
  append(deliver, encode_presented(presented));
  expect_refuses_cuts(deliver, [&](ByteView body) {
    const auto taken = decode_deliver(body);
    return taken && taken->indexes == std::vector<std::uint32_t>{5} && taken->ticket == ticket;
  });

  keyring::CmkChange described = keyring::CmkChange::kDescribe;
  described.time = wall_from_usec(5);
  described.days = 7;
  described.version = 3;
  described.alias = "renamed";
  described.description = "words";
  expect_refuses_cuts(encode_change(record, described), [&](ByteView body) {
    const auto taken = decode_change(body);
    return taken && taken->change == described;
  });

  Bytes make = encode_make_head(record, ticket, 8, 1);
  append(make, encode_context(presented.context));
  expect_refuses_cuts(make, [&](ByteView body) {
    const auto taken = decode_make_deks(body);
    return taken && taken->first_index == 8 && taken->contexts[0] == presented.context;
  });
}

TEST(VaultProtocolTest, ASharedDekComesBackAsItWas) {
  keyring::SharedDekRequest request{.records = {Bytes(70, std::byte{3}), Bytes(80, std::byte{4})},
                                    .context = context_of(keyring::Purpose::kVolumeKey),
                                    .index = 9};
  request.ticket.fill(std::byte{4});
  expect_refuses_cuts(encode_shared_request(request), [&](ByteView body) {
    const auto taken = decode_shared_request(body);
    return taken && taken->records == request.records && taken->needed == 2 &&
           taken->context == request.context && taken->ticket == request.ticket &&
           taken->index == 9;
  });
  request.records.assign(keyring::KeyShares::kTotalMax + 1U, Bytes(10, std::byte{1}));
  EXPECT_THAT(decode_shared_request(encode_shared_request(request)),
              FailsWith(Reason::kMessageInvalid));

  const auto blob = presented_of(keyring::Purpose::kVolumeKey).blob;
  keyring::SharedDek made{.context = request.context, .wraps = {blob, blob}};
  made.context.shares = keyring::KeyShares{};
  expect_refuses_cuts(encode_shared_dek(made), [&](ByteView body) {
    const auto taken = decode_shared_dek(body);
    return taken && taken->context == made.context && taken->wraps == made.wraps;
  });
}

TEST(VaultProtocolTest, RequestsOfTheWholeLifeComeBackAsTheyWere) {
  const Bytes record(70, std::byte{3});
  const Bytes other(80, std::byte{4});
  const auto presented = presented_of(keyring::Purpose::kEnvelopeData);
  for (const bool to_other : {false, true}) {
    Bytes rewrap = encode_rewrap_head(record, to_other ? ByteView(other) : ByteView(), 1);
    append(rewrap, encode_presented(presented));
    append(rewrap, encode_context(context_of(keyring::Purpose::kAuditSeal)));
    expect_refuses_cuts(rewrap, [&](ByteView body) {
      const auto taken = decode_rewrap(body);
      return taken && taken->from == record && taken->to == (to_other ? other : record) &&
             taken->keys.size() == 1 && taken->keys[0].from.blob == presented.blob &&
             taken->keys[0].to == context_of(keyring::Purpose::kAuditSeal);
    });
  }

  const std::vector<Bytes> inputs{Bytes(32, std::byte{1}), Bytes(48, std::byte{2})};
  Bytes sign = encode_sign_head(record, keyring::SignScheme::kEcdsa, inputs.size());
  Bytes decrypt = encode_decrypt_head(record, keyring::DecryptScheme::kSm2, inputs.size());
  for (const auto& input : inputs) {
    append(sign, ByteWriter().bytes(input).take());
    append(decrypt, ByteWriter().bytes(input).take());
  }
  expect_refuses_cuts(sign, [&](ByteView body) {
    const auto taken = decode_sign(body);
    return taken && taken->scheme == keyring::SignScheme::kEcdsa && taken->digests == inputs;
  });
  expect_refuses_cuts(decrypt, [&](ByteView body) {
    const auto taken = decode_decrypt(body);
    return taken && taken->scheme == keyring::DecryptScheme::kSm2 && taken->ciphertexts == inputs;
  });

  expect_refuses_cuts(encode_prepare_import(record, keyring::ImportWrapping::kRsaAesSha256),
                      [&](ByteView body) {
                        const auto taken = decode_prepare_import(body);
                        return taken && taken->wrapping == keyring::ImportWrapping::kRsaAesSha256;
                      });
  for (const auto valid_to : {std::optional<WallTime>(), std::optional(wall_from_usec(9))}) {
    const keyring::ImportMaterial material{Bytes(69, std::byte{5}), Bytes(256, std::byte{6}),
                                           valid_to};
    expect_refuses_cuts(encode_import(record, material), [&](ByteView body) {
      const auto taken = decode_import(body);
      return taken && taken->material.token == material.token &&
             taken->material.wrapped == material.wrapped &&
             taken->material.valid_to == material.valid_to;
    });
  }
}

TEST(VaultProtocolTest, AKeyIsAskedForWithAProtectionOrWithout) {
  for (const auto protection :
       {std::optional<keyring::Protection>(), std::optional(keyring::Protection::kRooted)}) {
    keyring::CmkParameters parameters;
    parameters.alias = "a";
    parameters.protection = protection;
    const auto taken = decode_parameters(encode_parameters(parameters));
    ASSERT_THAT(taken, Succeeds());
    EXPECT_EQ(taken->protection, protection);
  }
  keyring::CmkParameters unknown;
  unknown.protection = static_cast<keyring::Protection>(4);
  EXPECT_THAT(decode_parameters(encode_parameters(unknown)), FailsWith(Reason::kMessageInvalid));
}

TEST(VaultProtocolTest, InputsOverTheirLimitsAreRefused) {
  const Bytes record(70, std::byte{3});
  const auto one = [](Bytes head, std::size_t size) {
    append(head, ByteWriter().bytes(Bytes(size)).take());
    return head;
  };
  const Bytes sign = encode_sign_head(record, keyring::SignScheme::kEcdsa, 1);
  EXPECT_THAT(decode_sign(one(sign, kDigestBytesMax)), Succeeds());
  EXPECT_THAT(decode_sign(one(sign, kDigestBytesMax + 1)), FailsWith(Reason::kMessageInvalid));
  const Bytes decrypt = encode_decrypt_head(record, keyring::DecryptScheme::kRsaPkcs1, 1);
  EXPECT_THAT(decode_decrypt(one(decrypt, kCiphertextBytesMax)), Succeeds());
  EXPECT_THAT(decode_decrypt(one(decrypt, kCiphertextBytesMax + 1)),
              FailsWith(Reason::kMessageInvalid));
  EXPECT_THAT(decode_import(encode_import(record, {Bytes(kImportTokenBytesMax + 1), {}, {}})),
              FailsWith(Reason::kMessageInvalid));
  EXPECT_THAT(
      decode_import(encode_import(record, {{}, Bytes(keyring::kImportWrappedBytesMax + 1), {}})),
      FailsWith(Reason::kMessageInvalid));
  for (const int wrapping : {0, 7}) {
    EXPECT_THAT(decode_prepare_import(
                    encode_prepare_import(record, static_cast<keyring::ImportWrapping>(wrapping))),
                FailsWith(Reason::kMessageInvalid));
  }
}

TEST(VaultProtocolTest, AnswersKeepEachResultInItsPlace) {
  const auto blob = presented_of(keyring::Purpose::kVolumeKey).blob;
  std::vector<Result<WrappedKey>> wrapped;
  wrapped.emplace_back(blob);
  wrapped.emplace_back(fail(Reason::kKeyDisabled, std::string(5000, 'x')));
  const auto body = encode_results(wrapped);
  const auto taken = decode_wrapped_results(body, 2);
  ASSERT_THAT(taken, Succeeds());
  EXPECT_EQ(*taken->at(0), blob);
  EXPECT_THAT(taken->at(1), FailsWith(Reason::kKeyDisabled));
  EXPECT_LE(taken->at(1).error().message().size(), kResultTextBytesMax);
  EXPECT_THAT(decode_wrapped_results(body, 3), FailsWith(Reason::kMessageInvalid));

  std::vector<Result<SecretBytes>> secrets;
  secrets.emplace_back(SecretBytes::copy_of(Bytes(32, std::byte{8})));
  secrets.emplace_back(fail(Reason::kBlobInvalid, "no"));
  const auto secret = encode_results(secrets);
  const auto keys = decode_secret_results(secret->reveal(), 2);
  ASSERT_THAT(keys, Succeeds());
  EXPECT_EQ(keys->at(0)->size(), 32U);
  EXPECT_THAT(keys->at(1), FailsWith(Reason::kBlobInvalid));
}

TEST(VaultProtocolTest, SignaturesAndImportParametersComeBack) {
  std::vector<Result<Bytes>> signatures;
  signatures.emplace_back(Bytes(kSignatureBytesMax, std::byte{1}));
  signatures.emplace_back(fail(Reason::kKeyUsage, "no"));
  const auto taken = decode_signatures(encode_results(signatures), 2);
  ASSERT_THAT(taken, Succeeds());
  EXPECT_EQ(*taken->at(0), *signatures[0]);
  EXPECT_THAT(taken->at(1), FailsWith(Reason::kKeyUsage));

  const keyring::ImportParameters parameters{Bytes(50, std::byte{1}), Bytes(60, std::byte{2}),
                                             Bytes(69, std::byte{3}), wall_from_usec(7)};
  expect_refuses_cuts(encode_import_parameters(parameters), [&](ByteView body) {
    const auto back = decode_import_parameters(body);
    return back && back->record == parameters.record && back->public_key == parameters.public_key &&
           back->token == parameters.token && back->valid_to == parameters.valid_to;
  });
}

TEST(VaultProtocolTest, HealthComesBack) {
  keyring::VaultHealth health;
  health.supports = {
      {},
      {keyring::KeyAlgorithm::kSm2, keyring::KeyUsage::kSignVerify, keyring::Protection::kRooted}};
  health.state = keyring::VaultState::kPinRefused;
  health.detail = "refused";
  health.token_label = "coffer local";
  health.latency = std::chrono::microseconds(1234);
  health.failures = 7;
  const auto taken = decode_health(encode_health(health));
  ASSERT_THAT(taken, Succeeds());
  EXPECT_EQ(taken->state, keyring::VaultState::kPinRefused);
  EXPECT_EQ(taken->token_label, "coffer local");
  EXPECT_EQ(taken->supports, health.supports);
  EXPECT_EQ(taken->latency.count(), 1234);
  EXPECT_EQ(taken->failures, 7U);
  EXPECT_EQ(taken->maker, std::nullopt);
  for (int maker = 1; maker <= 4; ++maker) {
    health.maker = static_cast<keyring::VaultMaker>(maker);
    EXPECT_EQ(decode_health(encode_health(health))->maker, health.maker);
  }
  auto unknown = encode_health(health);
  unknown.back() = std::byte{5};
  EXPECT_THAT(decode_health(unknown), FailsWith(Reason::kMessageInvalid));
}

TEST(SetupProtocolTest, RequestAndAnswerComeBack) {
  SetupRequest request;
  request.module_path = "/m.so";
  request.new_token_label = "coffer local";
  request.pin_mark_file = "/state/pin-refused";
  request.look_only = true;
  request.pin = *SecretBytes::copy_of(as_bytes("1234"));
  request.seed = *SecretBytes::zeroed(32);
  const auto body = encode_setup(request);
  const auto taken = decode_setup(body->reveal());
  ASSERT_THAT(taken, Succeeds());
  EXPECT_EQ(taken->new_token_label, "coffer local");
  EXPECT_EQ(taken->pin_mark_file, "/state/pin-refused");
  EXPECT_TRUE(taken->look_only);
  EXPECT_EQ(as_text(taken->pin.reveal()), "1234");
  EXPECT_EQ(taken->seed.size(), 32U);
  EXPECT_THAT(decode_setup(body->reveal().first(10)), FailsWith(Reason::kMessageInvalid));

  SetupAnswer answer{"pkcs11:token=x", "00ff", true, false, keyring::TokenKind::kHardware};
  const auto back = decode_setup_answer(encode_setup_answer(answer));
  ASSERT_THAT(back, Succeeds());
  EXPECT_EQ(back->uri, answer.uri);
  EXPECT_EQ(back->kind, keyring::TokenKind::kHardware);
  EXPECT_THAT(decode_setup_answer(encode_setup_answer(fail(Reason::kHsmPinIncorrect, "no"))),
              FailsWith(Reason::kHsmPinIncorrect));
}

// A vault that would hand out anything it is asked for.
class OpenVault final : public keyring::KeyVault {
 public:
  Result<keyring::SealedRecord> create_cmk(const keyring::CmkParameters&) override {
    return Bytes(50, std::byte{1});
  }
  Result<keyring::SealedRecord> change_cmk(ByteView, const keyring::CmkChange&) override {
    return Bytes(50, std::byte{1});
  }
  Result<void> present(ByteView) override { return {}; }
  std::vector<Result<WrappedKey>> wrap(ByteView, std::span<const Plain>, Deadline) override {
    return {};
  }
  std::vector<Result<SecretBytes>> unwrap(ByteView, std::span<const Presented> keys,
                                          Deadline given) override {
    deadline = given;
    std::vector<Result<SecretBytes>> out;
    out.reserve(keys.size());
    for (std::size_t i = 0; i < keys.size(); ++i) out.push_back(SecretBytes::zeroed(4096));
    return out;
  }
  std::vector<Result<WrappedKey>> make_deks(ByteView, std::span<const KeyContext>,
                                            const keyring::Ticket&, std::uint32_t,
                                            Deadline) override {
    return {};
  }
  Result<keyring::SharedDek> make_shared_dek(const keyring::SharedDekRequest& request,
                                             Deadline) override {
    return keyring::SharedDek{request.context, {presented_of(keyring::Purpose::kVolumeKey).blob}};
  }
  std::vector<Result<void>> deliver(ByteView, std::span<const Presented>, const keyring::Ticket&,
                                    std::span<const std::uint32_t>, Deadline) override {
    return {};
  }
  std::vector<Result<WrappedKey>> rewrap(ByteView, ByteView, std::span<const keyring::Rewrapped>,
                                         Deadline) override {
    return {};
  }
  std::vector<Result<Bytes>> sign(ByteView, keyring::SignScheme, std::span<const Bytes> digests,
                                  Deadline) override {
    return {digests.size(), Result<Bytes>(Bytes(64, std::byte{2}))};
  }
  std::vector<Result<SecretBytes>> decrypt(ByteView, keyring::DecryptScheme,
                                           std::span<const Bytes> ciphertexts, Deadline) override {
    std::vector<Result<SecretBytes>> out;
    out.reserve(ciphertexts.size());
    for (std::size_t i = 0; i < ciphertexts.size(); ++i) out.push_back(SecretBytes::zeroed(24));
    return out;
  }
  Result<keyring::ImportParameters> prepare_import(ByteView, keyring::ImportWrapping) override {
    return keyring::ImportParameters{Bytes(50, std::byte{1}), Bytes(60, std::byte{2}),
                                     Bytes(69, std::byte{3}), wall_from_usec(7)};
  }
  Result<keyring::SealedRecord> import_material(ByteView,
                                                const keyring::ImportMaterial& material) override {
    return material.wrapped;
  }
  Result<SecretBytes> random(std::size_t size_bytes) override {
    return SecretBytes::zeroed(size_bytes);
  }
  keyring::VaultHealth health() override { return {}; }

  std::optional<Deadline> deadline;  // Of the last unwrap.
};

class VaultServerTest : public testing::Test {
 protected:
  Result<ipc::Reply> ask(VaultRequest type, const Bytes& body,
                         std::chrono::milliseconds time = std::chrono::seconds(10)) {
    Bytes message = encode_request_time(time);
    append(message, body);
    ipc::Request request;
    request.type = static_cast<std::uint16_t>(type);
    request.body = message;
    request.received = received_;
    return server_.handle(request);
  }
  static Bytes unwrap_of(std::size_t count, keyring::Purpose purpose) {
    Bytes body = encode_keys_head(Bytes(10, std::byte{1}), count);
    for (std::size_t i = 0; i < count; ++i) append(body, encode_presented(presented_of(purpose)));
    return body;
  }

  SteadyTime received_ = std::chrono::steady_clock::now();
  OpenVault vault_;
  VaultServer server_{vault_};
};

TEST_F(VaultServerTest, VolumesKeyIsNotReturnedEvenByAVaultThatWould) {
  EXPECT_THAT(ask(VaultRequest::kUnwrap, unwrap_of(1, keyring::Purpose::kVolumeKey)),
              FailsWith(Reason::kWrongPurpose));
  EXPECT_THAT(ask(VaultRequest::kUnwrap, unwrap_of(1, keyring::Purpose::kEnvelopeData)),
              Succeeds());
}

TEST_F(VaultServerTest, EachRequestReachesTheVaultsCallOfItsName) {
  const Bytes record(10, std::byte{1});
  const Bytes input(32, std::byte{9});
  Bytes sign = encode_sign_head(record, keyring::SignScheme::kEcdsa, 1);
  append(sign, ByteWriter().bytes(input).take());
  const auto signed_one = ask(VaultRequest::kSign, sign);
  ASSERT_THAT(signed_one, Succeeds());
  EXPECT_EQ(decode_signatures(signed_one->body, 1)->at(0)->size(), 64U);

  Bytes decrypt = encode_decrypt_head(record, keyring::DecryptScheme::kSm2, 1);
  append(decrypt, ByteWriter().bytes(input).take());
  const auto decrypted = ask(VaultRequest::kDecrypt, decrypt);
  ASSERT_THAT(decrypted, Succeeds());
  EXPECT_TRUE(decrypted->body.empty()) << "what was decrypted is secret";
  EXPECT_EQ(decode_secret_results(decrypted->secret.reveal(), 1)->at(0)->size(), 24U);

  const auto prepared = ask(VaultRequest::kPrepareImport,
                            encode_prepare_import(record, keyring::ImportWrapping::kSm2));
  ASSERT_THAT(prepared, Succeeds());
  EXPECT_EQ(decode_import_parameters(prepared->body)->token.size(), 69U);
  const auto imported = ask(VaultRequest::kImportMaterial, encode_import(record, {{}, input, {}}));
  ASSERT_THAT(imported, Succeeds());
  EXPECT_EQ(imported->body, input);

  const keyring::SharedDekRequest shared{.records = {record, record},
                                         .context = context_of(keyring::Purpose::kVolumeKey)};
  const auto made = ask(VaultRequest::kMakeSharedDek, encode_shared_request(shared));
  ASSERT_THAT(made, Succeeds());
  EXPECT_EQ(decode_shared_dek(made->body)->context, shared.context);
}

TEST_F(VaultServerTest, AnswerThatDoesNotFitIsAnError) {
  EXPECT_THAT(ask(VaultRequest::kUnwrap, unwrap_of(40, keyring::Purpose::kEnvelopeData)),
              FailsWith(Reason::kLimitsExceeded));
}

TEST_F(VaultServerTest, TheTimeOfARequestCountsFromItsReceipt) {
  using std::chrono::seconds;
  const auto body = unwrap_of(1, keyring::Purpose::kEnvelopeData);
  EXPECT_THAT(ask(VaultRequest::kUnwrap, body, seconds(7)), Succeeds());
  ASSERT_TRUE(vault_.deadline.has_value());
  EXPECT_EQ(vault_.deadline->at(), received_ + seconds(7));
  // No caller gets more than the most.
  EXPECT_THAT(ask(VaultRequest::kUnwrap, body, seconds(7000)), Succeeds());
  EXPECT_EQ(vault_.deadline->at(), received_ + kRequestTimeMax);
}

TEST_F(VaultServerTest, ARequestThatWaitedTooLongIsNotEvenBegun) {
  received_ -= std::chrono::seconds(11);
  const auto body = unwrap_of(1, keyring::Purpose::kEnvelopeData);
  EXPECT_THAT(ask(VaultRequest::kUnwrap, body), FailsWith(Reason::kHsmTimeout));
  EXPECT_THAT(ask(VaultRequest::kRandom, Bytes(4, std::byte{1})), FailsWith(Reason::kHsmTimeout));
  EXPECT_FALSE(vault_.deadline.has_value());
}

TEST_F(VaultServerTest, ARequestWithoutATimeIsRefused) {
  const Bytes message(3, std::byte{0});
  ipc::Request request;
  request.type = static_cast<std::uint16_t>(VaultRequest::kHealth);
  request.body = message;
  EXPECT_THAT(server_.handle(request), FailsWith(Reason::kMessageInvalid));
}

TEST_F(VaultServerTest, MalformedAndUnknownRequestsAreRefused) {
  for (const auto type : {VaultRequest::kCreateCmk, VaultRequest::kChangeCmk, VaultRequest::kWrap,
                          VaultRequest::kUnwrap, VaultRequest::kMakeDeks, VaultRequest::kDeliver,
                          VaultRequest::kRandom, VaultRequest::kHealth, VaultRequest::kRewrap,
                          VaultRequest::kSign, VaultRequest::kDecrypt, VaultRequest::kPrepareImport,
                          VaultRequest::kImportMaterial, VaultRequest::kMakeSharedDek}) {
    EXPECT_THAT(ask(type, Bytes(3, std::byte{0xFF})), FailsWith(Reason::kMessageInvalid));
  }
  EXPECT_THAT(ask(static_cast<VaultRequest>(99), {}), FailsWith(Reason::kMessageInvalid));
}

}  // namespace
}  // namespace coffer::hsm
