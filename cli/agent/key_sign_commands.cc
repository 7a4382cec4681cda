// SPDX-License-Identifier: Apache-2.0
// `coffer key sign`, `verify` and `public-key`. What is signed is a digest, made here: messages do
// not go to the agent. Signatures are checked here too, with the public key that the agent shows.
#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <ostream>

#include "cli/agent/agent_command.h"
#include "cli/agent/key_access.h"
#include "cli/commands.h"
#include "core/base/encoding.h"
#include "core/base/files.h"
#include "core/crypto/digest.h"
#include "core/crypto/ec.h"
#include "core/crypto/rsa.h"
#include "core/crypto/sha384.h"
#include "core/crypto/sm2.h"

namespace coffer::cli {
namespace {

namespace json = boost::json;

constexpr std::size_t kMessageBytesMax = 16U * 1024 * 1024;
constexpr std::size_t kSignatureFileBytesMax = 8192;

struct Signing {
  std::string key, scheme, signature_file;
  std::optional<std::string> signer_id;
  bool is_digest = false;
  bool base64 = false;
};

enum class Family : std::uint8_t { kRsa, kEc, kSm2 };

// Of a key that has a public half.
Family family_of(const json::object& key) {
  const std::string algorithm = text_of(key, "Algorithm");
  if (algorithm == "SM2") return Family::kSm2;
  return algorithm.starts_with("EC-") ? Family::kEc : Family::kRsa;
}

// kKeyPendingImport: it comes with the private one.   kKeyUsage: the key is a symmetric one.
Result<Bytes> public_key(const json::object& key) {
  auto der = from_base64(text_of(key, "PublicKey"));
  if (!der || der->empty()) {
    const std::string name = "key " + text_of(key, "Alias");
    if (text_of(key, "Usage") != "encrypt-decrypt") {
      return fail(Reason::kKeyPendingImport,
                  name + " has no public key yet: its private one was never imported");
    }
    return fail(Reason::kKeyUsage, name + " has no public key");
  }
  return std::move(*der);
}

// The key that signs. kKeyUsage: it does not.
Result<json::object> signing_key(AgentBus& bus, const std::string& path) {
  auto key = bus.properties(path, "Key");
  if (!key) return key;
  const std::string usage = text_of(*key, "Usage");
  if (usage == "sign-verify") return key;
  return fail(Reason::kKeyUsage,
              "key " + text_of(*key, "Alias") + " is for " + usage + ", not for sign-verify");
}

// What is signed of `message`, by the key's algorithm.
Result<Bytes> digest_of(const json::object& key, ByteView message,
                        const std::optional<std::string>& signer_id) {
  if (family_of(key) != Family::kSm2) {
    if (signer_id) {
      return fail(Reason::kInvalidArgs, "--distid goes with SM2 alone, and this is a key of " +
                                            text_of(key, "Algorithm"));
    }
    if (text_of(key, "Algorithm") == "EC-P384") {
      const auto digest = crypto::sha384(message);
      return Bytes(digest.begin(), digest.end());
    }
    const auto digest = crypto::sha256(message);
    return Bytes(digest.begin(), digest.end());
  }
  const auto der = public_key(key);
  if (!der) return tl::unexpected(der.error());
  const auto parsed = crypto::Sm2PublicKey::parse(*der);
  if (!parsed) return tl::unexpected(parsed.error());
  const auto digest =
      parsed->message_digest(message, signer_id.value_or(std::string(crypto::kSm2DefaultId)));
  if (!digest) return tl::unexpected(digest.error());
  return Bytes(digest->begin(), digest->end());
}

// Standard input, which is the message or its digest.
Result<Bytes> read_digest(const json::object& key, const Signing& own) {
  auto message = read_input(kMessageBytesMax);
  if (!message || own.is_digest) return message;
  return digest_of(key, *message, own.signer_id);
}

Result<Bytes> sign(AgentBus& bus, const Signing& own, const AgentOptions& options) {
  const auto path = find_key(bus, own.key);
  if (!path) return tl::unexpected(path.error());
  const auto key = signing_key(bus, *path);
  if (!key) return tl::unexpected(key.error());
  const auto digest = read_digest(*key, own);
  if (!digest) return tl::unexpected(digest.error());
  OptionList list;
  list.text("scheme", own.scheme);
  return call_for_bytes(bus, *path, "Key", "Sign", [&](sd_bus_message* m) {
    const int r = append_bytes(m, *digest);
    return r < 0 ? r : list.append(m, options);
  });
}

Result<void> require_scheme(const std::string& given, std::string_view only) {
  if (given.empty() || given == only) return {};
  return fail(Reason::kKeyUsage, "a key of this kind signs by " + std::string(only) + ", not by " +
                                     printable(given, 100));
}

// Result is that of verify() of the key's kind.   kKeyUsage: not a scheme of this key.
Result<void> check_rsa(ByteView der, const std::string& scheme, ByteView digest,
                       ByteView signature) {
  const bool pkcs1 = scheme == "rsa-pkcs1-sha256";
  if (!pkcs1) {
    if (auto good = require_scheme(scheme, "rsa-pss-sha256"); !good) return good;
  }
  const auto key = crypto::RsaPublicKey::parse(der);
  if (!key) return tl::unexpected(key.error());
  return key->verify(pkcs1 ? crypto::RsaScheme::kPkcs1Sha256 : crypto::RsaScheme::kPssSha256,
                     digest, signature);
}

template <class PublicKey>
Result<void> check_by(std::string_view only_scheme, ByteView der, const std::string& scheme,
                      ByteView digest, ByteView signature) {
  if (auto good = require_scheme(scheme, only_scheme); !good) return good;
  const auto key = PublicKey::parse(der);
  if (!key) return tl::unexpected(key.error());
  return key->verify(digest, signature);
}

Result<void> check(const json::object& key, const std::string& scheme, ByteView digest,
                   ByteView signature) {
  const auto der = public_key(key);
  if (!der) return tl::unexpected(der.error());
  switch (family_of(key)) {
    case Family::kEc:
      return check_by<crypto::EcPublicKey>("ecdsa", *der, scheme, digest, signature);
    case Family::kSm2:
      return check_by<crypto::Sm2PublicKey>("sm2", *der, scheme, digest, signature);
    case Family::kRsa:
      break;
  }
  return check_rsa(*der, scheme, digest, signature);
}

// Whether the signature is the key's; a key in any state is asked.
Result<bool> verify(AgentBus& bus, const Signing& own) {
  const auto path = find_key(bus, own.key);
  if (!path) return tl::unexpected(path.error());
  const auto key = signing_key(bus, *path);
  if (!key) return tl::unexpected(key.error());
  auto signature = read_file(own.signature_file, kSignatureFileBytesMax);
  if (!signature) return tl::unexpected(signature.error());
  const auto digest = read_digest(*key, own);
  if (!digest) return tl::unexpected(digest.error());
  const auto good = check(*key, own.scheme, *digest, raw_or_base64(std::move(*signature)));
  if (good) return true;
  if (good.error().reason() == Reason::kBlobInvalid) return false;
  return tl::unexpected(good.error());
}

int tell_verdict(const Result<bool>& good, const AgentOptions& options, Invocation& invocation) {
  if (!good) return report_error(good.error(), options, invocation);
  if (options.json) {
    print_json(json::object{{"valid", *good}}, invocation);
  } else {
    invocation.out << (*good ? "the signature is valid\n" : "the signature is NOT valid\n");
  }
  return *good ? kExitOk : kExitNo;
}

std::string pem_of(ByteView der) {
  constexpr std::size_t kLine = 64;
  const std::string text = to_base64(der);
  std::string pem = "-----BEGIN PUBLIC KEY-----\n";
  for (std::size_t at = 0; at < text.size(); at += kLine) pem += text.substr(at, kLine) + "\n";
  return pem + "-----END PUBLIC KEY-----\n";
}

int show_public_key(AgentBus& bus, const std::string& spec, bool as_der,
                    const AgentOptions& options, Invocation& invocation) {
  const auto path = find_key(bus, spec);
  if (!path) return report_error(path.error(), options, invocation);
  const auto key = bus.properties(*path, "Key");
  if (!key) return report_error(key.error(), options, invocation);
  const auto der = public_key(*key);
  if (!der) return report_error(der.error(), options, invocation);
  if (as_der || options.json) return give_bytes(der, "publicKey", false, options, invocation);
  invocation.out << pem_of(*der);
  return kExitOk;
}

void add_signing_options(CLI::App& command, Signing& own) {
  command.add_option("KEY", own.key, "Id or alias")->required();
  command.add_option("--scheme", own.scheme,
                     "rsa-pss-sha256 (unless given), rsa-pkcs1-sha256, ecdsa, sm2");
  auto* digest =
      command.add_flag("--digest", own.is_digest, "Standard input is the digest, not the message");
  command
      .add_option("--distid", own.signer_id,
                  "Of SM2: the id of who signs; 1234567812345678 unless given")
      ->excludes(digest);
}

void declare_sign(CLI::App& group, Invocation& invocation) {
  const auto own = std::make_shared<Signing>();
  auto* command = add_agent_command(
      group, invocation, "sign", "Sign standard input", kChangeCommand,
      [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        return give_bytes(sign(bus, *own, options), "signature", own->base64, options, run);
      });
  add_signing_options(*command, *own);
  command->add_flag("--base64", own->base64, "Base64 instead of raw bytes");
}

void declare_verify(CLI::App& group, Invocation& invocation) {
  const auto own = std::make_shared<Signing>();
  auto* command = add_agent_command(
      group, invocation, "verify", "Whether a signature of standard input is this key's",
      kPlainCommand, [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        return tell_verdict(verify(bus, *own), options, run);
      });
  add_signing_options(*command, *own);
  command->add_option("--signature", own->signature_file, "A file with it, raw or base64")
      ->required();
}

void declare_public_key(CLI::App& group, Invocation& invocation) {
  struct Shown {
    std::string key;
    bool der = false;
  };
  const auto own = std::make_shared<Shown>();
  auto* command = add_agent_command(
      group, invocation, "public-key", "The public key of an asymmetric key, as PEM", kPlainCommand,
      [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        return show_public_key(bus, own->key, own->der, options, run);
      });
  command->add_option("KEY", own->key, "Id or alias")->required();
  command->add_flag("--der", own->der, "DER instead");
}

}  // namespace

void declare_key_signing(CLI::App& group, Invocation& invocation) {
  declare_sign(group, invocation);
  declare_verify(group, invocation);
  declare_public_key(group, invocation);
}

}  // namespace coffer::cli
