// SPDX-License-Identifier: Apache-2.0
#include "cli/agent/key_access.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/base/encoding.h"
#include "core/base/sealed_secret.h"

namespace coffer::cli {
namespace {

constexpr std::size_t kSecretBytesMax = 4096;

// Fills `into` from standard input; how much came before its end. kIoError
Result<std::size_t> fill_from_input(std::span<std::byte> into) {
  std::size_t filled = 0;
  while (filled < into.size()) {
    const ssize_t got = ::read(STDIN_FILENO, into.data() + filled, into.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "read standard input");
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  return filled;
}

Result<void> require_size(std::size_t size, std::size_t size_max) {
  if (size == 0) return fail(Reason::kInvalidArgs, "standard input is empty");
  if (size <= size_max) return {};
  return fail(Reason::kInvalidArgs,
              "standard input has more than " + std::to_string(size_max) + " bytes");
}

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

}  // namespace

Result<std::string> find_key(AgentBus& bus, const std::string& spec) {
  const auto found = bus.call(kAgentRoot, "Keyring", "GetKey", [&](sd_bus_message* m) {
    return ::sd_bus_message_append(m, "s", spec.c_str());
  });
  if (!found) return tl::unexpected(found.error());
  return std::string(found->at(0).as_string());
}

Result<std::map<std::string, std::string>> named_values(const std::vector<std::string>& texts) {
  std::map<std::string, std::string> map;
  for (const auto& text : texts) {
    const auto equals = text.find('=');
    if (equals == std::string::npos || equals == 0)
      return fail(Reason::kInvalidArgs, "\"" + printable(text, 100) + "\" is not NAME=VALUE");
    if (!map.emplace(text.substr(0, equals), text.substr(equals + 1)).second)
      return fail(Reason::kInvalidArgs,
                  "\"" + printable(text, 100) + "\": its name is given twice");
  }
  return map;
}

int append_map(sd_bus_message* message, const std::map<std::string, std::string>& map) {
  int r = ::sd_bus_message_open_container(message, 'a', "{ss}");
  for (const auto& [name, value] : map) {
    if (r >= 0) r = ::sd_bus_message_append(message, "{ss}", name.c_str(), value.c_str());
  }
  return r < 0 ? r : ::sd_bus_message_close_container(message);
}

int append_bytes(sd_bus_message* message, ByteView bytes) {
  return ::sd_bus_message_append_array(message, 'y', bytes.data(), bytes.size());
}

int read_bytes(sd_bus_message* message, Bytes& into) {
  const void* data = nullptr;
  std::size_t size = 0;
  const int r = ::sd_bus_message_read_array(message, 'y', &data, &size);
  if (r < 0) return r;
  const auto* first = static_cast<const std::byte*>(data);
  into.assign(first, first + size);
  return 1;
}

int read_secret(sd_bus_message* message, Result<SecretBytes>& into) {
  int fd = -1;
  const int r = ::sd_bus_message_read_basic(message, 'h', &fd);
  if (r <= 0) return r < 0 ? r : -EBADMSG;
  into = read_sealed_secret(fd, kSecretBytesMax);
  return 1;
}

Result<Bytes> call_for_bytes(AgentBus& bus, const std::string& path, const char* interface,
                             const char* method, const AgentBus::Fill& fill) {
  Bytes bytes;
  const auto done = bus.call_raw(path, interface, method, fill,
                                 [&](sd_bus_message* answer) { return read_bytes(answer, bytes); });
  if (!done) return tl::unexpected(done.error());
  return bytes;
}

Bytes raw_or_base64(Bytes bytes) {
  std::string text(as_text(bytes));
  std::erase_if(text, is_space);
  auto decoded = from_base64(text);
  return decoded ? std::move(*decoded) : std::move(bytes);
}

Result<SecretBytes> read_secret_input(std::size_t size_max) {
  auto secret = SecretBytes::zeroed(size_max + 1);
  if (!secret) return secret;
  const auto size = fill_from_input(secret->reveal_mutable());
  if (!size) return tl::unexpected(size.error());
  if (const auto good = require_size(*size, size_max); !good) return tl::unexpected(good.error());
  secret->shrink(*size);
  return secret;
}

Result<Bytes> read_input(std::size_t size_max) {
  Bytes bytes(size_max + 1);
  const auto size = fill_from_input(bytes);
  if (!size) return tl::unexpected(size.error());
  if (const auto good = require_size(*size, size_max); !good) return tl::unexpected(good.error());
  bytes.resize(*size);
  return bytes;
}

Result<Bytes> read_ciphertext_input(std::size_t size_max) {
  auto bytes = read_input(size_max * 4 / 3 + 1024);
  if (!bytes) return bytes;
  bytes = raw_or_base64(std::move(*bytes));
  if (const auto good = require_size(bytes->size(), size_max); !good)
    return tl::unexpected(good.error());
  return bytes;
}

Result<void> write_output(ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return fail_errno(errno, "write to standard output");
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
  return {};
}

Result<void> write_output(ByteView bytes, bool as_text) {
  return as_text ? write_output(as_bytes(to_base64(bytes) + "\n")) : write_output(bytes);
}

int give_bytes(const Result<Bytes>& bytes, const char* name, bool base64,
               const AgentOptions& options, Invocation& invocation) {
  if (!bytes) return report_error(bytes.error(), options, invocation);
  if (options.json) {
    return print_json(boost::json::object{{name, to_base64(*bytes)}}, invocation);
  }
  const auto written = write_output(*bytes, base64);
  return written ? kExitOk : report_error(written.error(), options, invocation);
}

}  // namespace coffer::cli
