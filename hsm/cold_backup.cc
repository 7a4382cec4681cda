// SPDX-License-Identifier: Apache-2.0
#include "hsm/cold_backup.h"

#include <fcntl.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "core/base/clock.h"
#include "core/base/files.h"
#include "core/base/sqlite_copy.h"
#include "core/base/unique_fd.h"
#include "core/keyring/key_store.h"
#include "hsm/setup_launcher.h"

namespace coffer::hsm {
namespace fs = std::filesystem;

namespace {

constexpr std::string_view kManifest = "manifest";
constexpr std::size_t kPieceBytes = 1 << 16;
constexpr std::size_t kKeysPerPage = 256;
constexpr std::chrono::minutes kCopyTime{60};

struct Source {
  std::string_view name;
  std::string path;
  RunAs owner;
  bool required = false;
  bool is_database = true;  // Else a file that is written once, and never changed.
};

constexpr std::size_t kRootsMax = 16;
constexpr std::size_t kCensusBytesMax = 2 * NamedKeys::kEncodedBytesMax;

// What the copy of the keys holds.
struct Census {
  std::uint64_t keys = 0;
  std::string root_id;
  NamedKeys damaged;
  NamedKeys resident;
};

// The folder that an owner's copy lies in, with all that is in it until the object is gone.
class TemporaryFolder {
 public:
  static Result<TemporaryFolder> make() {
    // The owner of a store may not be who the caller's own folder is for.
    const char* const wanted = ::secure_getenv("TMPDIR");
    int number = 0;
    for (const char* const parent : {wanted, "/var/tmp"}) {
      if (parent == nullptr) continue;
      std::string path = std::string(parent) + "/coffer-XXXXXX";
      if (::mkdtemp(path.data()) != nullptr) return TemporaryFolder(std::move(path));
      number = errno;
    }
    return fail_errno(number, "make a folder below /var/tmp");
  }
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  const std::string& path() const noexcept { return path_; }

 private:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

Result<UniqueFd> make_new_file(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid()) return fail_errno(errno, "make " + path);
  if (::fchmod(fd.get(), 0600) != 0) return fail_errno(errno, "set the mode of " + path);
  return fd;
}

Result<UniqueFd> open_to_read(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, "open " + path);
  return fd;
}

// Reads `from` to its end, and writes what it reads to `to` unless that is -1.
Result<BackupManifest::File> pass_through(std::string_view name, int from, int to) {
  BackupManifest::File out{.name = std::string(name)};
  crypto::Sha256 hash;
  Bytes piece(kPieceBytes);
  for (;;) {
    const ssize_t count =
        ::pread(from, piece.data(), piece.size(), static_cast<off_t>(out.size_bytes));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, "read " + out.name);
    if (count == 0) break;
    const ByteView read = ByteView(piece).first(static_cast<std::size_t>(count));
    if (to >= 0) {
      const auto written = write_exactly_at(to, read, static_cast<off_t>(out.size_bytes));
      if (!written) return pass(written.error(), "write " + out.name);
    }
    hash.update(read);
    out.size_bytes += read.size();
  }
  out.digest = hash.finish();
  return out;
}

Result<void> require_same(const BackupManifest::File& wanted, const BackupManifest::File& found) {
  if (wanted == found) return {};
  return fail(Reason::kStoreDamaged, wanted.name + " of the backup is not what was backed up");
}

// Calls `look` with every record of the store.
template <class Look>
Result<void> for_each_record(keyring::KeyStore& store, Look look) {
  keyring::KeyQuery query;
  query.count_max = kKeysPerPage;
  for (;;) {
    const auto page = store.list(query);
    if (!page) return tl::unexpected(page.error());
    for (const auto& stored : *page) look(stored.id, keyring::CmkRecord::decode(stored.record));
    if (page->size() < kKeysPerPage) return {};
    query.after = page->back().id;
  }
}

// The root key that most records are under: one that was damaged, or put there, is not.
Result<std::string> root_of_most(keyring::KeyStore& store) {
  std::map<std::string, std::uint64_t> roots;
  const auto counted = for_each_record(store, [&](const CmkId&, const auto& record) {
    if (record && (roots.contains(record->root_id) || roots.size() < kRootsMax))
      ++roots[record->root_id];
  });
  if (!counted) return tl::unexpected(counted.error());
  std::vector<std::pair<std::uint64_t, std::string>> ranked;
  ranked.reserve(roots.size());
  for (const auto& [root, count] : roots) ranked.emplace_back(count, root);
  std::ranges::sort(ranked, std::greater<>());
  if (ranked.empty()) return std::string();
  if (ranked.size() > 1 && ranked[0].first == ranked[1].first)
    return fail(Reason::kRecordInvalid, "as many keys are under the root key " + ranked[0].second +
                                            " as under " + ranked[1].second);
  return ranked.front().second;
}

Result<Census> count_keys(const std::string& path) {
  const auto store = keyring::open_sqlite_key_store(path);
  if (!store) return tl::unexpected(store.error());
  auto root = root_of_most(**store);
  if (!root) return tl::unexpected(root.error());
  Census census;
  census.root_id = std::move(*root);
  const auto counted = for_each_record(**store, [&](const CmkId& id, const auto& record) {
    ++census.keys;
    if (!record) {
      census.damaged.add(id, "", record.error().str());
    } else if (record->root_id != census.root_id) {
      census.damaged.add(id, record->alias, "it is under the root key " + record->root_id);
    } else if (record->protection == keyring::Protection::kResident) {
      census.resident.add(id, record->alias, "it was made in its token and never leaves it");
    }
  });
  if (!counted) return tl::unexpected(counted.error());
  if (census.keys > 0 && census.root_id.empty())
    return fail(Reason::kRecordInvalid, "no record is sound: " + census.damaged.keys.front().str());
  return census;
}

Result<void> copy_file(const Source& source, const std::string& path, int to) {
  const auto fd = open_to_read(path);
  if (!fd) return tl::unexpected(fd.error());
  const auto passed = pass_through(source.name, fd->get(), to);
  if (!passed) return tl::unexpected(passed.error());
  return {};
}

// As its owner: a consistent copy goes to `to`. Of the keys, what the copy holds goes to `tell`.
Result<void> copy_as_owner(const Source& source, int to, int tell) {
  if (!source.is_database) return copy_file(source, source.path, to);
  const auto folder = TemporaryFolder::make();
  if (!folder) return tl::unexpected(folder.error());
  const auto copy = folder->path() + "/" + std::string(source.name);
  if (const auto copied = copy_sqlite_file(source.path, copy); !copied) return copied;
  if (source.name == BackupManifest::kKeys) {
    const auto census = count_keys(copy);
    if (!census) return tl::unexpected(census.error());
    ByteWriter text;
    text.u64(census->keys).text(census->root_id);
    census->damaged.write(text);
    census->resident.write(text);
    if (const auto told = write_exactly_at(tell, text.view(), 0); !told) return told;
  }
  return copy_file(source, copy, to);
}

Result<Census> read_census(int fd) {
  const auto text = read_file("/proc/self/fd/" + std::to_string(fd), kCensusBytesMax);
  if (!text) return tl::unexpected(text.error());
  ByteReader in(*text);
  Census out;
  out.keys = in.u64();
  out.root_id = in.text(64);
  out.damaged = NamedKeys::read(in);
  out.resident = NamedKeys::read(in);
  if (const auto whole = in.finish(Reason::kInternal, "number of keys"); !whole)
    return tl::unexpected(whole.error());
  return out;
}

// Makes the copy of one source in `folder`. None: the host has no such file.
Result<std::optional<BackupManifest::File>> copy_one(const Source& source,
                                                     const std::string& folder, int tell) {
  std::error_code error;
  if (!source.required && !fs::exists(source.path, error)) return std::nullopt;
  const auto path = folder + "/" + std::string(source.name);
  const auto fd = make_new_file(path);
  if (!fd) return tl::unexpected(fd.error());
  const auto copied =
      run_as(source.owner, [&] { return copy_as_owner(source, fd->get(), tell); }, kCopyTime);
  if (!copied) return pass(copied.error(), "back up " + source.path);
  if (::fsync(fd->get()) != 0) return fail_errno(errno, "fsync " + path);
  auto file = pass_through(source.name, fd->get(), -1);
  if (!file) return tl::unexpected(file.error());
  return std::optional(std::move(*file));
}

Result<void> begin_folder(const std::string& partial) {
  std::error_code error;
  const auto there = fs::symlink_status(partial, error).type();
  if (there != fs::file_type::not_found && there != fs::file_type::directory)
    return fail(Reason::kNameTaken, partial + " is there, and is no folder");
  for (const auto& entry : fs::directory_iterator(partial, error)) {
    const auto name = entry.path().filename().string();
    const bool ours = name == kManifest || name == std::string(kManifest) + ".new" ||
                      name == BackupManifest::kFloors || name == BackupManifest::kKeys ||
                      name == BackupManifest::kRegistry || name == BackupManifest::kSdfKeys;
    if (ours) continue;
    std::string text = partial;
    text.append(" holds ").append(name).append(", no backup's file");
    return fail(Reason::kNameTaken, text);
  }
  fs::remove_all(partial, error);
  if (::mkdir(partial.c_str(), 0700) != 0) return fail_errno(errno, "make folder " + partial);
  return {};
}

Result<Backup> fill(const HostPlaces& places, const HostId& host, const std::string& folder,
                    const std::function<void(std::string_view)>& after) {
  const auto agent = places.agent_state() + "/";
  // In this order: cold_backup.h says why.
  const auto vault = places.vault_state() + "/";
  const std::array<Source, 4> sources{
      {{BackupManifest::kSdfKeys, vault + std::string(BackupManifest::kSdfKeys), places.vault_user,
        false, false},
       {BackupManifest::kFloors, vault + "floors.db", places.vault_user},
       {BackupManifest::kRegistry, agent + "registry.db", places.agent_user},
       {BackupManifest::kKeys, agent + "keyring.db", places.agent_user, true}}};
  const auto tell = make_memfd("coffer-census", 0);
  if (!tell) return tl::unexpected(tell.error());
  BackupManifest manifest{.host = host, .root_id = {}, .made = system_clock().wall()};
  manifest.made = std::chrono::floor<std::chrono::seconds>(manifest.made);
  for (const auto& source : sources) {
    auto file = copy_one(source, folder, tell->get());
    if (!file) return tl::unexpected(file.error());
    if (*file) manifest.files.push_back(std::move(**file));
    after(source.name);
  }
  std::ranges::sort(manifest.files, {}, &BackupManifest::File::name);
  auto census = read_census(tell->get());
  if (!census) return tl::unexpected(census.error());
  if (census->keys == 0) return fail(Reason::kNoSuchKey, "there are no keys to back up");
  manifest.keys = census->keys;
  manifest.root_id = census->root_id;

  const auto text = manifest.to_text();
  // What no restore would take must not count as a backup.
  if (const auto read = BackupManifest::parse(text); !read) return tl::unexpected(read.error());
  const auto written =
      write_file_durably(folder + "/" + std::string(kManifest), as_bytes(text), 0600);
  if (!written) return tl::unexpected(written.error());
  after(kManifest);
  return Backup{std::move(manifest), std::move(census->damaged), std::move(census->resident)};
}

}  // namespace

Result<Backup> make_backup(const HostPlaces& places, const std::string& folder,
                           const std::function<void(std::string_view step)>& after_step) {
  const auto after = [&](std::string_view step) {
    if (after_step) after_step(step);
  };
  std::error_code error;
  if (folder.empty() || folder.ends_with('/'))
    return fail(Reason::kInvalidArgs, "the folder of a backup is a name without a slash behind it");
  if (fs::exists(fs::symlink_status(folder, error)))
    return fail(Reason::kNameTaken, folder + " is there already");
  const auto host = read_host_id(places.host_id());
  if (!host) return pass(host.error(), "back up this host");
  const auto partial = folder + ".partial";
  if (const auto begun = begin_folder(partial); !begun) return tl::unexpected(begun.error());
  after("folder");

  auto made = fill(places, *host, partial, after);
  if (!made) {
    fs::remove_all(partial, error);
    return made;
  }
  if (::rename(partial.c_str(), folder.c_str()) != 0)
    return fail_errno(errno, "put " + folder + " in place");
  const auto parent = fs::path(folder).parent_path().string();
  if (const auto synced = sync_folder(parent.empty() ? "." : parent); !synced)
    return tl::unexpected(synced.error());
  return made;
}

Result<BackupManifest> check_backup(const std::string& folder) {
  const auto text = read_file(folder + "/" + std::string(kManifest), BackupManifest::kTextBytesMax);
  if (!text) return pass(text.error(), "read the backup");
  auto manifest = BackupManifest::parse(as_text(*text));
  if (!manifest) return manifest;
  for (const auto& file : manifest->files) {
    const auto fd = open_to_read(folder + "/" + file.name);
    if (!fd) return pass(fd.error(), "read the backup");
    const auto found = pass_through(file.name, fd->get(), -1);
    if (!found) return tl::unexpected(found.error());
    if (const auto same = require_same(file, *found); !same) return tl::unexpected(same.error());
  }
  return manifest;
}

Result<void> take_from_backup(const std::string& folder, const BackupManifest::File& file,
                              const std::string& path) {
  const auto from = open_to_read(folder + "/" + file.name);
  if (!from) return tl::unexpected(from.error());
  const auto to = make_new_file(path);
  if (!to) return tl::unexpected(to.error());
  const auto found = pass_through(file.name, from->get(), to->get());
  if (!found) return tl::unexpected(found.error());
  if (::fsync(to->get()) != 0) return fail_errno(errno, "fsync " + path);
  return require_same(file, *found);
}

}  // namespace coffer::hsm
