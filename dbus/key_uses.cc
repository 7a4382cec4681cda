// SPDX-License-Identifier: Apache-2.0
// What callers use keys for. What is secret comes and goes in sealed files beside the message; the
// message itself has ciphertexts, digests and signatures alone.
#include <fcntl.h>

#include <cerrno>

#include "core/base/sealed_secret.h"
#include "core/keyring/caller_blob.h"
#include "dbus/key_plans.h"
#include "dbus/key_words.h"
#include "dbus/message.h"
#include "dbus/names.h"
#include "dbus/paths.h"

namespace coffer::dbus {
namespace {

using agent::KeyInfo;
using keyring::CallerBlob;

constexpr OptionSpec kScheme[] = {{"scheme", 's'}};
constexpr std::size_t kContextEntriesMax = 64;
constexpr std::size_t kDigestBytesMax = 64;
constexpr std::size_t kCiphertextBytesMax = 8192;

Result<std::string> read_context(Reader& reader) {
  const auto map = reader.text_map(kContextEntriesMax);
  if (!map) return tl::unexpected(map.error());
  return keyring::canonical_context(*map);
}

Result<CallerBlob> read_blob(Reader& reader) {
  const auto bytes = reader.bytes(CallerBlob::kEncodedBytesMax);
  if (!bytes) return tl::unexpected(bytes.error());
  return CallerBlob::decode(*bytes);
}

// A secret as the answer's descriptor; further arguments by `append`.
template <class Append>
void reply_secret(const Reply& reply, const Result<SecretBytes>& plain, Append append) {
  if (!plain) return reply.error(plain.error());
  const auto sealed = seal_secret(*plain);
  if (!sealed) return reply.error(sealed.error());
  reply.fill([&](sd_bus_message* m) {
    const int fd = sealed->get();  // The message takes one of its own.
    const int r = ::sd_bus_message_append_basic(m, SD_BUS_TYPE_UNIX_FD, &fd);
    return r < 0 ? r : append(m);
  });
}

void reply_bytes(const Reply& reply, const Result<Bytes>& bytes) {
  if (!bytes) return reply.error(bytes.error());
  reply.fill([&](sd_bus_message* m) { return append_bytes(m, *bytes); });
}

int append_nothing(sd_bus_message*) {
  return 0;
}

Result<keyring::SignScheme> sign_scheme(const Options& options, const keyring::CmkRecord& key) {
  using keyring::KeyAlgorithm;
  if (const auto name = options.maybe_text("scheme")) return sign_scheme_by_name(*name);
  if (key.algorithm == KeyAlgorithm::kSm2) return keyring::SignScheme::kSm2;
  const bool is_ec =
      key.algorithm == KeyAlgorithm::kEcP256 || key.algorithm == KeyAlgorithm::kEcP384;
  return is_ec ? keyring::SignScheme::kEcdsa : keyring::SignScheme::kRsaPssSha256;
}

Result<keyring::DecryptScheme> decrypt_scheme(const Options& options,
                                              const keyring::CmkRecord& key) {
  if (const auto name = options.maybe_text("scheme")) return decrypt_scheme_by_name(*name);
  return key.algorithm == keyring::KeyAlgorithm::kSm2 ? keyring::DecryptScheme::kSm2
                                                      : keyring::DecryptScheme::kRsaOaepSha256;
}

}  // namespace

Result<Plan> on_encrypt(Context& context, sd_bus_message* call) {
  Reader reader(call);
  const auto fd = reader.descriptor();
  if (!fd) return tl::unexpected(fd.error());
  auto application = read_context(reader);
  if (!application) return tl::unexpected(application.error());
  const auto options = key_options(reader, {});
  if (!options) return tl::unexpected(options.error());
  const auto key = called_key(context, call);
  if (!key) return tl::unexpected(key.error());
  if (const auto size = sealed_secret_bytes(*fd, CallerBlob::kPlainBytesMax); !size)
    return tl::unexpected(size.error());
  auto plan = plan_on_key(context, "encrypt", *key, *options);
  // What is in it is read only when that is allowed and has its turn. Until it is allowed, the
  // message keeps the descriptor.
  plan.run = [&engine = context.engine, id = key->record.id, fd = *fd,
              message = std::make_shared<MessagePtr>(share(call)),
              application = std::move(*application)](const agent::Caller& caller,
                                                     const Reply& reply) {
    UniqueFd sealed(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!sealed.valid())
      return reply.error(fail_errno(errno, "keep the plaintext", Reason::kLimitsExceeded).value());
    engine.encrypt(id, std::move(sealed), application, caller,
                   [reply](const Result<Bytes>& blob) { reply_bytes(reply, blob); });
  };
  return plan;
}

Result<Plan> on_generate_data_key(Context& context, sd_bus_message* call) {
  Reader reader(call);
  const auto size = reader.u32();
  if (!size) return tl::unexpected(size.error());
  auto application = read_context(reader);
  if (!application) return tl::unexpected(application.error());
  const auto options = key_options(reader, {});
  if (!options) return tl::unexpected(options.error());
  if (*size < CallerBlob::kDataKeyBytesMin || *size > CallerBlob::kDataKeyBytesMax)
    return fail(Reason::kInvalidArgs, "a data key has 16 to 1024 bytes");
  const auto key = called_key(context, call);
  if (!key) return tl::unexpected(key.error());
  auto plan = plan_on_key(context, "generate-data-key", *key, *options);
  plan.run = [&engine = context.engine, id = key->record.id, size = *size,
              application = std::move(*application)](const agent::Caller& caller,
                                                     const Reply& reply) {
    engine.make_data_key(id, size, application, caller, [reply](Result<agent::NewDataKey> made) {
      if (!made) return reply.error(made.error());
      reply_secret(reply, std::move(made->plain),
                   [&](sd_bus_message* m) { return append_bytes(m, made->blob); });
    });
  };
  return plan;
}

Result<Plan> on_sign(Context& context, sd_bus_message* call) {
  Reader reader(call);
  auto digest = reader.bytes(kDigestBytesMax);
  if (!digest) return tl::unexpected(digest.error());
  const auto options = key_options(reader, kScheme);
  if (!options) return tl::unexpected(options.error());
  const auto key = called_key(context, call);
  if (!key) return tl::unexpected(key.error());
  const auto scheme = sign_scheme(*options, key->record);
  if (!scheme) return tl::unexpected(scheme.error());
  auto plan = plan_on_key(context, "sign", *key, *options);
  plan.run = [&engine = context.engine, id = key->record.id, scheme = *scheme,
              digest = std::move(*digest)](const agent::Caller& caller, const Reply& reply) {
    engine.sign(id, scheme, digest, caller,
                [reply](const Result<Bytes>& signature) { reply_bytes(reply, signature); });
  };
  return plan;
}

Result<Plan> on_decrypt_asymmetric(Context& context, sd_bus_message* call) {
  Reader reader(call);
  auto ciphertext = reader.bytes(kCiphertextBytesMax);
  if (!ciphertext) return tl::unexpected(ciphertext.error());
  const auto options = key_options(reader, kScheme);
  if (!options) return tl::unexpected(options.error());
  const auto key = called_key(context, call);
  if (!key) return tl::unexpected(key.error());
  const auto scheme = decrypt_scheme(*options, key->record);
  if (!scheme) return tl::unexpected(scheme.error());
  auto plan = plan_on_key(context, "decrypt", *key, *options);
  plan.run = [&engine = context.engine, id = key->record.id, scheme = *scheme,
              ciphertext = std::move(*ciphertext)](const agent::Caller& caller,
                                                   const Reply& reply) {
    engine.decrypt_asymmetric(
        id, scheme, ciphertext, caller,
        [reply](const Result<SecretBytes>& plain) { reply_secret(reply, plain, &append_nothing); });
  };
  return plan;
}

Result<Plan> on_decrypt(Context& context, sd_bus_message* call) {
  Reader reader(call);
  auto blob = read_blob(reader);
  if (!blob) return tl::unexpected(blob.error());
  auto application = read_context(reader);
  if (!application) return tl::unexpected(application.error());
  const auto options = key_options(reader, {});
  if (!options) return tl::unexpected(options.error());
  const auto key = context.engine.key(blob->wrapped.cmk.str());
  if (!key) return tl::unexpected(key.error());
  auto plan = plan_on_key(context, "decrypt", *key, *options);
  plan.run = [&engine = context.engine, path = key_path(key->record.id), blob = std::move(*blob),
              application = std::move(*application)](const agent::Caller& caller,
                                                     const Reply& reply) {
    engine.decrypt(blob, application, caller, [reply, path](const Result<SecretBytes>& plain) {
      reply_secret(reply, plain, [&](sd_bus_message* m) {
        return ::sd_bus_message_append_basic(m, SD_BUS_TYPE_OBJECT_PATH, path.c_str());
      });
    });
  };
  return plan;
}

Result<Plan> on_reencrypt(Context& context, sd_bus_message* call) {
  Reader reader(call);
  auto blob = read_blob(reader);
  if (!blob) return tl::unexpected(blob.error());
  auto application = read_context(reader);
  if (!application) return tl::unexpected(application.error());
  const auto spec = reader.text();
  if (!spec) return tl::unexpected(spec.error());
  auto application_then = read_context(reader);
  if (!application_then) return tl::unexpected(application_then.error());
  const auto options = key_options(reader, {});
  if (!options) return tl::unexpected(options.error());
  const auto from = context.engine.key(blob->wrapped.cmk.str());
  if (!from) return tl::unexpected(from.error());
  const auto to = spec->empty() ? from : context.engine.key(*spec);
  if (!to) return tl::unexpected(to.error());
  auto plan = plan_on_key(context, "reencrypt", *from, *options);
  // One question for each of the two keys.
  if (to->record.id != from->record.id) {
    plan.subjects.push_back(
        {{"cmk", to->record.id.str()}, {"alias", to->record.alias}, {"operation", plan.operation}});
    plan.recheck = [first = plan.recheck, second = recheck_of(context, *to)]() -> Result<void> {
      const auto same = first();
      return same ? second() : same;
    };
  }
  plan.run = [&engine = context.engine, to = to->record.id, blob = std::move(*blob),
              application = std::move(*application), then = std::move(*application_then)](
                 const agent::Caller& caller, const Reply& reply) {
    engine.reencrypt(
        blob, application, to, then, caller, [reply](const Result<agent::Reencrypted>& made) {
          if (!made) return reply.error(made.error());
          reply.fill([&](sd_bus_message* m) {
            const int r = append_bytes(m, made->blob);
            const int changed = made->changed ? 1 : 0;
            return r < 0 ? r : ::sd_bus_message_append_basic(m, SD_BUS_TYPE_BOOLEAN, &changed);
          });
        });
  };
  return plan;
}

Result<Plan> on_generate_random(Context& context, sd_bus_message* call) {
  Reader reader(call);
  const auto size = reader.u32();
  if (!size) return tl::unexpected(size.error());
  const auto options = key_options(reader, {});
  if (!options) return tl::unexpected(options.error());
  if (*size < 1 || *size > CallerBlob::kDataKeyBytesMax)
    return fail(Reason::kInvalidArgs, "1 to 1024 random bytes are given");
  auto plan = key_plan("generate-random", "", "", *options);
  plan.run = [&engine = context.engine, size = *size](const agent::Caller& caller,
                                                      const Reply& reply) {
    engine.random_bytes(size, caller, [reply](const Result<SecretBytes>& bytes) {
      reply_secret(reply, bytes, &append_nothing);
    });
  };
  return plan;
}

}  // namespace coffer::dbus
