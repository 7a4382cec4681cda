// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/file_systems.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "agent/worker/one_shot.h"
#include "core/base/files.h"

namespace coffer::agent {
namespace {

struct Maker {
  std::string_view type;
  std::string_view program;  // In one of the folders below.
  std::size_t label_bytes_max;
};
constexpr std::array kMakers{Maker{"ext4", "mkfs.ext4", 16}, Maker{"xfs", "mkfs.xfs", 12}};
constexpr std::array<std::string_view, 2> kFolders{"/usr/sbin/", "/sbin/"};
constexpr std::size_t kWordsBytesMax = 4096;

std::string find_program(std::string_view name) {
  for (const auto folder : kFolders) {
    auto path = std::string(folder) + std::string(name);
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return {};
}

// The last lines that the program wrote, on one line.
std::string last_words(int fd) {
  std::string words(kWordsBytesMax, '\0');
  const auto end = ::lseek(fd, 0, SEEK_END);
  const auto start =
      end > static_cast<off_t>(kWordsBytesMax) ? end - static_cast<off_t>(kWordsBytesMax) : 0;
  const auto got = ::pread(fd, words.data(), words.size(), start);
  words.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  for (char& c : words)
    if (c == '\n' || c == '\r' || c == '\b') c = ' ';
  while (words.ends_with(' ')) words.pop_back();
  return printable(words, 400);
}

struct Ended {
  int status = 0;  // Of wait(2).
  std::string words;
};
Result<Ended> run(const std::vector<std::string>& command, Deadline deadline) {
  const auto output = make_memfd("coffer-mkfs", 0);
  if (!output) return tl::unexpected(output.error());
  const auto pid = start_program(command, -1, output->get());
  if (!pid) return tl::unexpected(pid.error());
  const auto status = end_program(*pid, deadline);
  if (!status) return tl::unexpected(status.error());
  return Ended{*status, last_words(output->get())};
}

// What blkid(8) finds on `node`: "" nothing, else the type of a file system or partition table.
Result<std::string> content_of(const std::string& node, Deadline deadline) {
  const auto program = find_program("blkid");
  if (program.empty()) return fail(Reason::kUnsupported, "blkid is not installed");
  const auto ended =
      run({program, "-p", "-o", "value", "-s", "TYPE", "-s", "PTTYPE", node}, deadline);
  if (!ended) return tl::unexpected(ended.error());
  constexpr int kNothing = 2;
  constexpr int kAmbivalent = 8;
  const int exit_status = WIFEXITED(ended->status) ? WEXITSTATUS(ended->status) : -1;
  if (exit_status == kNothing && ended->words.empty()) return std::string();
  if (exit_status == kAmbivalent) return std::string("data of several kinds");
  if (exit_status == 0) return ended->words;
  return fail(Reason::kIoError, "blkid failed: " + ended->words);
}

// mkfs.xfs writes the superblock first, with sb_inprogress set, and clears that at its end.
Result<bool> is_half_made(const std::string& node, std::string_view type) {
  if (type != "xfs") return false;
  constexpr off_t kInProgressBytes = 126;
  const UniqueFd device(::open(node.c_str(), O_RDONLY | O_CLOEXEC));
  if (!device.valid()) return fail_errno(errno, "open " + node, Reason::kIoError);
  std::array<std::byte, 1> in_progress{};
  if (const auto got = read_exactly_at(device.get(), in_progress, kInProgressBytes); !got)
    return pass(got.error(), "read the superblock on " + node);
  return in_progress[0] != std::byte{0};
}

}  // namespace

Result<void> make_file_system_on(const std::string& node, const std::string& type,
                                 const std::string& label, Deadline deadline) {
  const Maker* maker = nullptr;
  for (const auto& known : kMakers)
    if (known.type == type) maker = &known;
  if (maker == nullptr)
    return fail(Reason::kUnsupported, "no file system of type " + printable(type, 32));
  if (label.size() > maker->label_bytes_max || label.starts_with('-'))
    return fail(Reason::kInvalidArgs, type + " does not take that label");
  const auto program = find_program(maker->program);
  if (program.empty())
    return fail(Reason::kUnsupported, std::string(maker->program) + " is not installed");

  // mkfs.ext4 overwrites what it finds when nobody sits at a terminal.
  const auto content = content_of(node, deadline);
  if (!content) return pass(content.error(), "look what is on " + node);
  if (!content->empty() && *content != type)
    return fail(Reason::kForeignData, "there is " + *content + " on " + node + " already");
  std::vector<std::string> command{program, "-q"};
  if (*content == type) {
    const auto half = is_half_made(node, type);
    if (!half) return tl::unexpected(half.error());
    if (!*half) return {};
    command.emplace_back("-f");  // Else it does not overwrite what an earlier one began.
  }
  if (!label.empty()) command.insert(command.end(), {"-L", label});
  command.push_back(node);
  const auto ended = run(command, deadline);
  if (!ended) return pass(ended.error(), "make the file system");
  if (!WIFEXITED(ended->status) || WEXITSTATUS(ended->status) != 0)
    return fail(Reason::kIoError, std::string(maker->program) + " failed: " + ended->words);
  return {};
}

}  // namespace coffer::agent
