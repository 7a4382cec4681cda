// SPDX-License-Identifier: Apache-2.0
#include "cli/init_shares.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <ostream>

#include "core/base/encoding.h"
#include "core/base/files.h"

namespace coffer::cli {
namespace {

using hsm::RecoveryShare;
using hsm::ShareScheme;

Result<ShareScheme> parse_scheme(const std::string& text) {
  ShareScheme scheme;
  const auto slash = text.find('/');
  const auto number = [](std::string_view digits, std::uint8_t& value) {
    const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return read.ec == std::errc() && read.ptr == digits.data() + digits.size();
  };
  if (slash == std::string::npos ||
      !number(std::string_view(text).substr(0, slash), scheme.needed) ||
      !number(std::string_view(text).substr(slash + 1), scheme.total))
    return fail(Reason::kInvalidArgs, "--shares takes NEEDED/TOTAL, such as 2/3");
  return scheme;
}

// Straight from locked memory to the terminal: a stream would keep a copy.
Result<void> print_secret(const SecretBytes& text) {
  auto rest = text.reveal();
  while (!rest.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail_errno(errno, "print a recovery share");
    rest = rest.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

// One share as it is typed: lines of digits until there are four, byte by byte into locked memory.
Result<RecoveryShare> read_typed_share() {
  constexpr int kLines = 4;
  auto text = SecretBytes::zeroed(hsm::kShareTextBytesMax);
  if (!text) return tl::unexpected(text.error());
  std::size_t size = 0;
  int lines = 0;
  auto first = std::byte{0};  // Of the line so far, without blanks.
  while (lines < kLines && size < text->size()) {
    auto& next = text->reveal_mutable()[size];
    const ssize_t got = ::read(STDIN_FILENO, &next, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return fail(Reason::kConfirmMismatch, "the input ended before the shares did");
    ++size;
    if (next == std::byte{'\n'}) {
      const auto start = std::exchange(first, std::byte{0});
      // Comments and empty lines may be copied along.
      lines += start == std::byte{0} || start == std::byte{'#'} ? 0 : 1;
    } else if (first == std::byte{0} && next > std::byte{' '}) {
      first = next;
    }
  }
  return hsm::share_from_text(text->reveal().first(size));
}

Result<RecoveryShare> read_share_file(const std::string& path) {
  const auto text = read_secret_file(path, hsm::kShareTextBytesMax);
  if (!text) return tl::unexpected(text.error());
  auto share = hsm::share_from_text(text->reveal());
  if (!share) return pass(share.error(), path);
  return share;
}

Result<std::vector<std::string>> write_files(const std::vector<RecoveryShare>& shares,
                                             const std::string& folder, std::ostream& out) {
  std::error_code ignored;  // mkdir says what is wrong.
  std::filesystem::create_directories(std::filesystem::path(folder).parent_path(), ignored);
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, "make folder " + folder);
  std::vector<std::string> files;
  for (const auto& share : shares) {
    // The seed's tag keeps shares of different tokens, and of runs given up, from each other's
    // names.
    ByteWriter tag;
    tag.u32(share.seed_tag);
    files.push_back(folder + "/share-" + to_hex(tag.view()) + "-" + std::to_string(share.index) +
                    "-of-" + std::to_string(share.scheme.total) + ".txt");
    const auto text = hsm::share_to_text(share);
    if (!text) return tl::unexpected(text.error());
    if (const auto written = write_secret_file_durably(files.back(), *text, 0600); !written)
      return tl::unexpected(written.error());
    out << "recovery share " << int{share.index} << "   " << files.back() << "\n";
  }
  out << "Move these files to different places away from this host: any "
      << int{shares.front().scheme.needed} << " of them make the token's keys.\n";
  return files;
}

Result<void> print_all(const std::vector<RecoveryShare>& shares, std::ostream& out) {
  out << "These recovery shares are shown once. Any " << int{shares.front().scheme.needed}
      << " of them make the token's keys anew; keep them in different places.\n\n"
      << std::flush;
  for (const auto& share : shares) {
    const auto text = hsm::share_to_text(share);
    if (!text) return tl::unexpected(text.error());
    if (const auto printed = print_secret(*text); !printed) return printed;
    out << "\n" << std::flush;
  }
  return {};
}

// The next share that is typed, asked for again until it is one. `needed` is 0 as long as no share
// has said how many it takes.
Result<RecoveryShare> ask_share(std::size_t have, std::uint8_t needed, std::ostream& out) {
  for (;;) {
    out << "Type the four lines of a share (" << have + 1;
    if (needed != 0) out << " of " << int{needed};
    out << "):\n" << std::flush;
    auto share = read_typed_share();
    if (share || share.error().reason() != Reason::kInvalidArgs) return share;
    out << share.error().message() << "; again.\n";
  }
}

Result<std::vector<RecoveryShare>> read_back(const std::vector<std::string>& files,
                                             std::uint8_t needed, std::ostream& out) {
  std::vector<RecoveryShare> shares;
  for (const auto& file : files) {
    auto share = read_share_file(file);
    if (!share) return tl::unexpected(share.error());
    shares.push_back(std::move(*share));
  }
  while (files.empty() && shares.size() < needed) {
    auto share = ask_share(shares.size(), needed, out);
    if (!share) return tl::unexpected(share.error());
    shares.push_back(std::move(*share));
  }
  return shares;
}

}  // namespace

Result<void> hand_out_shares(const SecretBytes& seed, const ShareOptions& options,
                             std::ostream& out) {
  const auto scheme = parse_scheme(options.scheme);
  if (!scheme) return tl::unexpected(scheme.error());
  const auto shares = hsm::split_seed(seed, *scheme);
  if (!shares) return tl::unexpected(shares.error());

  std::vector<std::string> confirm = options.confirm;
  if (options.folder.empty()) {
    if (const auto printed = print_all(*shares, out); !printed) return printed;
  } else {
    const auto files = write_files(*shares, options.folder, out);
    if (!files) return tl::unexpected(files.error());
    if (confirm.empty() && options.ask_nothing) confirm = *files;
  }
  const auto back = read_back(confirm, scheme->needed, out);
  if (!back) return tl::unexpected(back.error());
  const auto combined = hsm::combine_shares(*back);
  if (!combined) return pass(combined.error(), "confirm the recovery shares");
  if (!equal_constant_time(combined->reveal(), seed.reveal()))
    return fail(Reason::kConfirmMismatch, "the recovery shares read back are of another seed");
  out << "recovery shares confirmed\n";
  return {};
}

Result<SecretBytes> seed_from_files(const std::vector<std::string>& files) {
  std::vector<RecoveryShare> shares;
  for (const auto& file : files) {
    auto share = read_share_file(file);
    if (!share) return tl::unexpected(share.error());
    shares.push_back(std::move(*share));
  }
  return hsm::combine_shares(shares);
}

Result<SecretBytes> seed_from_input(std::ostream& out) {
  std::vector<RecoveryShare> shares;
  do {
    const std::uint8_t needed = shares.empty() ? std::uint8_t{0} : shares.front().scheme.needed;
    auto share = ask_share(shares.size(), needed, out);
    if (!share) return tl::unexpected(share.error());
    shares.push_back(std::move(*share));
  } while (shares.size() < shares.front().scheme.needed);
  return hsm::combine_shares(shares);
}

}  // namespace coffer::cli
