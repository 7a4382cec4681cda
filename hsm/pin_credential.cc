// SPDX-License-Identifier: Apache-2.0
#include "hsm/pin_credential.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <vector>

#include "core/base/files.h"
#include "core/base/unique_fd.h"

namespace coffer::hsm {
namespace {

constexpr const char* kProgram = "/usr/bin/systemd-creds";
constexpr std::size_t kOutputBytesMax = std::size_t{16} * 1024;

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "make a pipe");
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

[[noreturn]] void become_filter(const std::vector<std::string>& arguments, int in, int out) {
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): execv does not write to them.
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const UniqueFd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  const bool ready = ::dup2(in, STDIN_FILENO) >= 0 && ::dup2(out, STDOUT_FILENO) >= 0 &&
                     ::dup2(null.get(), STDERR_FILENO) >= 0;
  if (ready) ::execv(argv[0], argv.data());
  ::_exit(126);
}

// Writes less than a pipe holds, so it cannot block before the reader starts.
bool write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return true;
}

Result<SecretBytes> read_all(int fd) {
  auto out = SecretBytes::zeroed(kOutputBytesMax);
  if (!out) return out;
  std::size_t size = 0;
  while (size < kOutputBytesMax) {
    const ssize_t got = ::read(fd, out->reveal_mutable().data() + size, kOutputBytesMax - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "read from systemd-creds");
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  out->shrink(size);
  return out;
}

// Runs a program on `input`; what it writes, if it succeeds.
Result<SecretBytes> filter(const std::vector<std::string>& arguments,
                           std::span<const std::byte> input) {
  auto in = make_pipe();
  if (!in) return tl::unexpected(in.error());
  auto out = make_pipe();
  if (!out) return tl::unexpected(out.error());
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno(errno, "fork");
  if (pid == 0) become_filter(arguments, in->read.get(), out->write.get());
  in->read.reset();
  out->write.reset();
  const bool written = write_all(in->write.get(), input);
  in->write.reset();
  auto output = read_all(out->read.get());
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!output) return output;
  if (!written || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return fail(Reason::kUnsupported, "systemd-creds cannot do it on this host");
  return output;
}

}  // namespace

Result<void> encrypt_credential(const SecretBytes& pin, const std::string& path) {
  const auto encrypted = filter({kProgram, "encrypt", "--name=pin", "-", "-"}, pin.reveal());
  if (!encrypted) return fail(Reason::kUnsupported, encrypted.error().message());
  const auto back = filter({kProgram, "decrypt", "--name=pin", "-", "-"}, encrypted->reveal());
  if (!back || !equal_constant_time(back->reveal(), pin.reveal()))
    return fail(Reason::kUnsupported, "systemd-creds does not decrypt what it encrypted");
  return write_secret_file_durably(path, *encrypted, 0600);
}

Result<SecretBytes> decrypt_credential(const std::string& path) {
  const auto file = read_secret_file(path, kOutputBytesMax);
  if (!file) return fail(Reason::kHsmLoginNeeded, file.error().message());
  auto pin = filter({kProgram, "decrypt", "--name=pin", "-", "-"}, file->reveal());
  if (!pin) return fail(Reason::kHsmLoginNeeded, "decrypt " + path + ": " + pin.error().message());
  return pin;
}

std::string credential_key_note() {
  std::error_code error;
  if (std::filesystem::exists("/dev/tpmrm0", error)) return {};
  return "this host has no TPM, so the key that encrypts the PIN lies on its disk "
         "(/var/lib/systemd/credential.secret): whoever takes the disk takes the PIN";
}

}  // namespace coffer::hsm
