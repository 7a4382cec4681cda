// SPDX-License-Identifier: Apache-2.0
#include "hsm/softhsm_copy.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "core/base/files.h"
#include "core/base/unique_fd.h"

namespace coffer::hsm {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kConfBytesMax = std::size_t{64} << 10U;
constexpr std::string_view kTokenFolder = "directories.tokendir";

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

// A configuration, taken apart at its one line that names the folder.
struct Conf {
  std::string others;  // Every other line.
  std::string token_folder;
};

Result<Conf> read_conf(const std::string& path) {
  const auto text = read_file(path, kConfBytesMax);
  if (!text) return pass(text.error(), "read SoftHSM's configuration");
  Conf out;
  for (auto rest = as_text(*text); !rest.empty();) {
    const auto end = rest.find('\n');
    const auto line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    const auto equals = line.find('=');
    if (trimmed(line.substr(0, equals)) == kTokenFolder && equals != std::string_view::npos)
      out.token_folder = trimmed(line.substr(equals + 1));
    else
      out.others.append(line).append("\n");
  }
  if (!out.token_folder.starts_with('/'))
    return fail(Reason::kConfigInvalid, path + " names no folder of tokens");
  return out;
}

tl::unexpected<Error> fail_with(const std::error_code& error, const std::string& what) {
  return fail_errno(error.value(), what);
}

Result<void> write_new_file(const std::string& path, ByteView content) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid()) return fail_errno(errno, "make " + path);
  return write_exactly_at(fd.get(), content, 0);
}

Result<void> make_folder(const fs::path& path) {
  if (::mkdir(path.c_str(), 0700) != 0) return fail_errno(errno, "make " + path.string());
  return {};
}

// Files and folders alone: a link is nothing that SoftHSM makes.
Result<void> copy_tree(const fs::path& from, const fs::path& to) {
  std::error_code error;
  if (const auto made = make_folder(to); !made) return made;
  fs::recursive_directory_iterator at(from, error);
  if (error == std::errc::no_such_file_or_directory) return {};
  std::size_t count = 0;
  for (; !error && at != fs::recursive_directory_iterator(); at.increment(error)) {
    if (++count > SoftHsmCopy::kFilesMax)
      return fail(Reason::kLimitsExceeded, from.string() + " holds more files than a token has");
    const auto target = to / at->path().lexically_relative(from);
    const auto type = at->symlink_status(error).type();
    if (error) break;
    if (type == fs::file_type::directory) {
      if (const auto made = make_folder(target); !made) return made;
    } else if (type == fs::file_type::regular) {
      const auto bytes = read_file(at->path().string(), SoftHsmCopy::kFileBytesMax);
      if (!bytes) return pass(bytes.error(), "copy a token");
      if (const auto written = write_new_file(target.string(), *bytes); !written) return written;
    }
  }
  if (error) return fail_with(error, "read " + from.string());
  return {};
}

}  // namespace

Result<void> SoftHsmCopy::refresh() const {
  const auto conf = read_conf(conf_path_);
  if (!conf) return tl::unexpected(conf.error());
  const std::string tokens = folder_ + "/tokens";
  std::error_code error;
  for (const auto& old : {tokens, this->conf()}) {
    fs::remove_all(old, error);
    if (error) return fail_with(error, "remove " + old);
  }
  if (const auto copied = copy_tree(conf->token_folder, tokens); !copied) return copied;
  const std::string text = conf->others + std::string(kTokenFolder) + " = " + tokens + "\n";
  return write_new_file(this->conf(), as_bytes(text));
}

void SoftHsmCopy::remove() const noexcept {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

}  // namespace coffer::hsm
