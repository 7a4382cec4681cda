// SPDX-License-Identifier: Apache-2.0
// Rotation that reaches the disks: the volumes of a key, moved to its newest version.
#include "dbus/key_plans.h"

namespace coffer::dbus {
namespace {

constexpr OptionSpec kPace[] = {{"per-minute", 't'}};

}  // namespace

Result<Plan> on_rewrap_all(Context& context, sd_bus_message* call) {
  Reader reader(call);
  const auto options = key_options(reader, kPace);
  if (!options) return tl::unexpected(options.error());
  const auto key = called_key(context, call);
  if (!key) return tl::unexpected(key.error());
  const auto pace = options->number("per-minute").value_or(0);
  if (pace > agent::kRewrapsPerMinuteMax) {
    return fail(Reason::kInvalidArgs,
                "per-minute is at most " + std::to_string(agent::kRewrapsPerMinuteMax));
  }
  auto plan = plan_on_key(context, "rewrap-all", *key, *options);
  const agent::RewrapOptions wanted{.per_minute = static_cast<std::uint32_t>(pace)};
  plan.run = [&engine = context.engine, id = key->record.id, wanted](const agent::Caller& caller,
                                                                     const Reply& reply) {
    reply.job(engine.rewrap_all(id, wanted, caller));
  };
  return plan;
}

}  // namespace coffer::dbus
