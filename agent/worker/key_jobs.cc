// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/key_jobs.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <utility>
#include <variant>

#include "agent/reader/header_batch.h"
#include "agent/worker/header_writer.h"
#include "core/crypto/digest.h"

namespace coffer::agent {
namespace {

// libcryptsetup refuses a header file that is shorter than the areas it names, or than this.
constexpr std::uint64_t kHeaderFileBytes = std::uint64_t{16} << 20U;
constexpr std::uint64_t kDataBytesMin = std::uint64_t{1} << 20U;

std::uint64_t header_area_bytes(const luks2::Profile& profile) {
  return 2 * profile.metadata_bytes + profile.keyslots_bytes;
}

VolumeId volume_of(const KeyJob& job) {
  return VolumeId(job.spec.profile.uuid);
}

std::string device_numbers(const DeviceIdentity& device) {
  return std::to_string(device.major) + ":" + std::to_string(device.minor);
}

}  // namespace

Result<void> require_pinned(const luks2::CheckedHeader& header, const luks2::Profile& profile) {
  if (!header.profile && header.activation) return tl::unexpected(header.activation->error());
  if (!header.profile)
    return fail(Reason::kHeaderUnusual, "the header has something that no profile can hold");
  const auto difference = luks2::first_difference(profile, *header.profile);
  if (difference)
    return fail(Reason::kProfileMismatch,
                *difference + ": the header has another value than the pinned profile");
  if (header.activation) return tl::unexpected(header.activation->error());
  return {};
}

Result<void> require_room(const HeldDevice& device, const luks2::Profile& profile) {
  if (profile.detached() != device.header_device.has_value())
    return fail(Reason::kInvalidArgs,
                "a header device goes with a detached profile, and only there");
  const auto& where = device.where_header_is().identity;
  const auto& data = device.device.identity;
  if (where.size_bytes < header_area_bytes(profile))
    return fail(Reason::kDeviceTooSmall, where.node + " is too small for the header");
  if (data.size_bytes < profile.data_offset_bytes + kDataBytesMin)
    return fail(Reason::kDeviceTooSmall, data.node + " leaves no room for data behind the header");
  if (data.size_bytes % profile.sector_bytes != 0)
    return fail(Reason::kDeviceTooSmall,
                data.node + " is not a whole number of sectors of the profile long");
  return {};
}

Standing judge_standing(const Result<Mapping>& found, const std::string& dm_uuid,
                        const DeviceIdentity& device, const OneShotEnd& end) {
  const bool made_nothing = !end.reply && !end.cut_off;
  if (!found || found->dm_uuid != dm_uuid) {
    const bool seen = found || found.error().reason() == Reason::kNotUnlocked;
    const bool may_come = end.lives && end.cut_off;
    return made_nothing || (seen && !may_come) ? Standing::kGone : Standing::kUnknown;
  }
  if (made_nothing) return Standing::kOthers;
  const bool right = found->state == MappingState::kActive &&
                     found->backing_major == device.major && found->backing_minor == device.minor;
  return right ? Standing::kOurs : Standing::kUnusable;
}

KeyJobs::KeyJobs(Options options, TicketTable& tickets, Mappings& mappings)
    : options_(std::move(options)),
      tickets_(tickets),
      mappings_(mappings),
      runner_(options_.program),
      pool_({options_.one_shots_max, options_.queue_max}) {}

Result<void> KeyJobs::take(hsm::Delivery delivery) {
  if (delivery.label.share) {
    auto key =
        tickets_.collect(delivery.ticket, delivery.index, delivery.label, std::move(delivery.key));
    if (!key) return tl::unexpected(key.error());
    if (!*key) return {};
    delivery.key = std::move(**key);
  }
  auto job = tickets_.take(delivery.ticket, delivery.index, delivery.label.profile_digest);
  if (!job) return tl::unexpected(job.error());
  const auto ticket = delivery.ticket;
  const auto index = delivery.index;
  const auto refuse = [&](const Error& error) {
    tickets_.end(ticket, index, tl::unexpected(error));
    return tl::unexpected(error);
  };
  if (delivery.key.size() != job->spec.profile.key_bytes)
    return refuse(Error(Reason::kWrongKey, "the key has not the length that the profile says"));
  if (job->spec.action == Action::kFormat) {
    tickets_.keep(ticket, index, std::move(delivery.key));
    return {};
  }
  // The vault need not wait for device-mapper: from here the outcome goes to cofferd.
  auto task = [this, ticket, index, job = std::move(*job), key = std::move(delivery.key)] {
    tickets_.end(ticket, index, carry_out(job, key));
  };
  if (const auto queued = pool_.submit(std::move(task)); !queued) return refuse(queued.error());
  return {};
}

Result<Activated> KeyJobs::carry_out(const KeyJob& job, const SecretBytes& key) {
  if (!tickets_.wanted(job.ticket, job.spec.index))
    return fail(Reason::kCancelled, "given up before it began");
  // It may have waited in the queue until nobody waits for it any more.
  if (job.deadline.passed()) return fail(Reason::kTimedOut, "it could not begin in time");
  const auto deadline =
      Deadline(std::min(job.deadline.at(), Deadline::after(options_.one_shot_timeout).at()));
  if (const auto same = require_unchanged(job.device->device); !same)
    return tl::unexpected(same.error());
  if (job.spec.action == Action::kActivate) return activate(job, key, deadline);
  const auto end = run(job, OneShotRequest::Mode::kVerify, key, deadline);
  if (!end.reply) return tl::unexpected(end.reply.error());
  return Activated{};
}

OneShotEnd KeyJobs::run(const KeyJob& job, OneShotRequest::Mode mode, const SecretBytes& key,
                        Deadline deadline) {
  // The very bytes that the reader checked: nothing is read from the device again.
  const auto memfd =
      job.device->image.to_memfd(std::max(kHeaderFileBytes, header_area_bytes(job.spec.profile)));
  if (!memfd) return {pass(memfd.error(), "lay out the checked header")};
  const auto path = node_path(job.device->device);
  if (!path) return {tl::unexpected(path.error())};
  OneShotRequest request;
  request.mode = mode;
  request.profile = job.spec.profile;
  request.mapping = job.spec.mapping;
  request.read_only = job.spec.read_only || job.device->device.identity.read_only;
  request.allow_discards = job.spec.allow_discards;
  request.no_read_workqueue = job.spec.no_read_workqueue;
  request.no_write_workqueue = job.spec.no_write_workqueue;
  request.data_path = *path;
  const std::array fds{memfd->get(), job.device->device.fd.get()};
  return runner_.run(request, fds, &key, deadline);
}

Result<Activated> KeyJobs::activate(const KeyJob& job, const SecretBytes& key, Deadline deadline) {
  const auto volume = volume_of(job);
  const auto dm_uuid = mapping_dm_uuid(volume, job.spec.mapping);
  const Mappings::Making making(mappings_, dm_uuid);
  if (const auto free = mappings_.make_room(job.spec.mapping, volume); !free)
    return tl::unexpected(free.error());
  // The udev rule looks for the mark when the mapping appears.
  if (const auto marked = mappings_.mark(dm_uuid); !marked) return tl::unexpected(marked.error());
  return settle(job, run(job, OneShotRequest::Mode::kActivate, key, deadline));
}

// What stands there counts, not what the process managed to say before it ended.
Result<Activated> KeyJobs::settle(const KeyJob& job, const OneShotEnd& end) {
  const auto dm_uuid = mapping_dm_uuid(volume_of(job), job.spec.mapping);
  const auto mapping = mappings_.find(job.spec.mapping);
  const auto& device = job.device->device.identity;
  const auto& reply = end.reply;
  switch (judge_standing(mapping, dm_uuid, device, end)) {
    case Standing::kGone:
      mappings_.unmark(dm_uuid);
      if (!reply) return tl::unexpected(reply.error());
      return fail(Reason::kActivationFailed, "the mapping was gone at once");
    case Standing::kUnknown:
      // The mark stays: without it, a mapping that is there after all would be nobody's.
      return reply ? pass(mapping.error(), "see what the mapping became")
                   : tl::unexpected(reply.error());
    case Standing::kOthers:
      // The mark must not vouch for what somebody else opened.
      mappings_.unmark(dm_uuid);
      if (reply.error().reason() != Reason::kAlreadyUnlocked) return tl::unexpected(reply.error());
      return fail(Reason::kMappingForeign,
                  job.spec.mapping + " was opened by somebody else meanwhile");
    case Standing::kUnusable: {
      const Error error =
          reply ? Error(Reason::kDeviceChanged,
                        "the mapping was made over another device than " + device_numbers(device))
                : reply.error();
      const auto removed =
          mappings_.deactivate(job.spec.mapping, volume_of(job), DeactivateMode::kPlain,
                               Deadline::after(std::chrono::seconds(5)));
      return tl::unexpected(removed ? error : with_leftover(error, removed.error()));
    }
    case Standing::kOurs:
      break;
  }
  Activated activated{mapping->node, dm_uuid, mapping->major, mapping->minor, 0, 0};
  const auto now = static_cast<std::uint64_t>(system_clock().since_boot().count());
  activated.usable_boot_usec = reply ? reply->boot_usec : now;
  // The library waited for udev, unless its process was ended over that.
  activated.settled_boot_usec = reply ? reply->boot_usec : 0;
  return activated;
}

Result<void> KeyJobs::probe(const KeyJob& job) const {
  // In tests alone: files, and kernels without device-mapper.
  const bool real = mappings_.possible() || options_.files == FilesAllowed::kNo;
  if (!real || job.device->device.is_file()) return {};
  const auto& profile = job.spec.profile;
  return mappings_.probe({profile.cipher, profile.key_bytes, profile.sector_bytes,
                          device_numbers(job.device->device.identity)});
}

Result<BuiltHeader> KeyJobs::build_header(const KeptKey& kept, const std::string& label,
                                          const std::string& token_json, Deadline deadline) {
  const auto& job = kept.job;
  if (const auto room = require_room(*job.device, job.spec.profile); !room)
    return tl::unexpected(room.error());
  // What is mounted or mapped is refused now, and again when it is written.
  if (const auto free = open_exclusively(job.device->device); !free)
    return tl::unexpected(free.error());
  // A kernel that cannot open what is about to be made must not cost anybody a header.
  if (const auto possible = probe(job); !possible) return tl::unexpected(possible.error());

  OneShotRequest request;
  request.mode = OneShotRequest::Mode::kBuild;
  request.profile = job.spec.profile;
  request.data_bytes = job.device->device.identity.size_bytes;
  request.header_bytes = job.device->where_header_is().identity.size_bytes;
  request.label = label;
  request.token_json = token_json;
  const auto end = runner_.run(request, {}, kept.key.get(), deadline);
  const auto& reply = end.reply;
  if (!reply) return pass(reply.error(), "build the header");

  auto header = read_sealed_memfd(reply->header.get(), 2 * job.spec.profile.metadata_bytes);
  if (!header) return pass(header.error(), "take the new header");
  auto outcome = luks2::decode_outcome(reply->outcome);
  if (!outcome) return pass(outcome.error(), "take the new header");
  auto* checked = std::get_if<luks2::CheckedHeader>(&*outcome);
  if (checked == nullptr) return fail(Reason::kInternal, "the new header was refused");
  auto print = print_header(*header);
  if (!print) return tl::unexpected(print.error());
  BuiltHeader built{crypto::sha256(*header), std::move(*print), std::move(*checked)};
  tickets_.keep_header(job.ticket, job.spec.index, std::move(*header));
  return built;
}

Result<void> KeyJobs::write_header(const KeptKey& kept, const std::string& confirmation) {
  if (!kept.header) return fail(Reason::kTicketUnknown, "no header was built under this ticket");
  const auto& job = kept.job;
  const auto& device = *job.device;

  // Held from before the last look until it is written: nobody else can put data there in between.
  const auto data = open_exclusively(device.device);
  if (!data) return tl::unexpected(data.error());
  Result<UniqueFd> header_device = UniqueFd();
  if (device.header_device) header_device = open_exclusively(*device.header_device);
  if (!header_device) return tl::unexpected(header_device.error());
  const auto seen = look_for_data(device);
  if (!seen) return tl::unexpected(seen.error());
  if (const auto allowed = require_empty_or_confirmed(*seen, confirmation); !allowed)
    return allowed;

  // What was confirmed to be overwritten must not be found again, by its end or by its second copy.
  const auto& profile = job.spec.profile;
  const auto size_bytes = device.device.identity.size_bytes;
  if (!seen->empty) {
    if (const auto cleared = clear_area(data->get(), size_bytes - kDataBytesMin, kDataBytesMin);
        !cleared)
      return pass(cleared.error(), "clear the end of the device");
    if (device.header_device)
      if (const auto cleared = clear_area(data->get(), 0, kDataBytesMin); !cleared)
        return pass(cleared.error(), "clear the start of the device");
  }
  // The last look: clearing what was there may have taken a while.
  for (const auto* one : {&device.device, &device.where_header_is()})
    if (const auto same = require_unchanged(*one); !same) return same;
  const int target = device.header_device ? header_device->get() : data->get();
  const auto area = std::max(header_area_bytes(profile), profile.data_offset_bytes);
  if (const auto written = write_new_header(target, {*kept.header, area}); !written)
    return pass(written.error(), "write the header");
  tickets_.forget_key(job.ticket, job.spec.index);
  return {};
}

}  // namespace coffer::agent
